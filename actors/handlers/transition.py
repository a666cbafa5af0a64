"""A lifecycle transition on its way: what its caller gets, and what its hooks are told, once it is committed."""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import define, evolve

from duramen.events.codec import to_datetime
from duramen.events.logging import get_logger
from duramen.projections.state import copy_tree

from ..commands import LifecycleEvent, LifecycleResult
from ..dispatch import Envelope
from .hooks import run_hooks

if TYPE_CHECKING:
    from .services import Services

__all__ = ["Transition", "announce", "timed"]


@define(eq=False)
class Transition:
    """Kept as one object until it is told: most are told once, to the caller, since there are no hooks."""

    event_type: str
    message: str
    data: dict[str, Any]
    agent: str
    seq: int
    time: int
    """µs since the epoch."""
    session_id: str | None
    agent_type: str | None
    metadata: dict[str, Any]
    """The agent's own: not to be changed, nor handed out."""

    def result(self, sent_at: float) -> LifecycleResult:
        """For the caller, whose message was sent at `sent_at` (seconds since the epoch)."""
        return LifecycleResult(
            success=True,
            event_type=self.event_type,
            message=self.message,
            data=self.data,
            duration_ms=(time() - sent_at) * 1000,
        )

    def event(self) -> LifecycleEvent:
        """For hooks."""
        return LifecycleEvent(
            event_type=self.event_type,
            agent=self.agent,
            session_id=self.session_id,
            agent_type=self.agent_type,
            seq=self.seq,
            time=to_datetime(self.time),
            data=self.data,
            metadata=cast("dict[str, Any]", copy_tree(self.metadata)),
        )


_LOGGER: Final = logging.getLogger("duramen.agent")


def announce(services: Services, envelope: Envelope, done: Transition) -> None:
    """Answer the caller when the hooks, if there are any, have run in a worker thread."""
    if _LOGGER.isEnabledFor(logging.DEBUG):  # else a logger would be made for nothing
        get_logger("agent").debug(
            "transition", transition=done.event_type, agent=done.agent, seq=done.seq, session_id=done.session_id
        )
    hooks = services.hooks.of(done.event_type)
    if not hooks:
        envelope.answer(done.result(envelope.sent_at))
        return
    event = done.event()

    def tell() -> None:
        errors = run_hooks(hooks, event, services.settings.hook_timeout, services.thread_pool, services.loop)
        told = evolve(done, data={**done.data, "hook_errors": errors}) if errors else done
        envelope.answer(told.result(envelope.sent_at))

    services.thread_pool.submit(tell)


def timed(result: LifecycleResult, envelope: Envelope) -> LifecycleResult:
    """The result with the time since its message was sent."""
    return evolve(result, duration_ms=(time() - envelope.sent_at) * 1000)
