"""A lifecycle transition, and the reply and the hook event that follow its commit."""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import define, evolve

from duramen.events.codec import to_datetime
from duramen.events.logging import get_logger
from duramen.projections.state import copy_tree

from ...commands import LifecycleEvent, LifecycleResult
from ...dispatch import Envelope
from ..hooks import run_hooks

if TYPE_CHECKING:
    from ..services import Services


@define(eq=False)
class Transition:
    """What a lifecycle message has done, until the commit: the source of its result and of the hooks' event."""

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
    """The agent's own dict: neither changed nor given away."""

    def result(self, sent_at: float) -> LifecycleResult:
        """The reply to a message that was sent at `sent_at` (seconds since the epoch)."""
        return LifecycleResult(
            success=True,
            event_type=self.event_type,
            message=self.message,
            data=self.data,
            duration_ms=(time() - sent_at) * 1000,
        )

    def event(self) -> LifecycleEvent:
        """The argument of the hooks."""
        metadata = cast("dict[str, Any]", copy_tree(self.metadata))
        for name in self.data.keys() & {"checkpoint_id", "episode_id"}:
            metadata[name] = self.data[name]
        return LifecycleEvent(
            event_type=self.event_type,
            agent=self.agent,
            session_id=self.session_id,
            agent_type=self.agent_type,
            seq=self.seq,
            time=to_datetime(self.time),
            data=self.data,
            metadata=metadata,
        )


_LOGGER: Final = logging.getLogger("duramen.agent")


def reply_to(services: Services, envelope: Envelope, done: Transition) -> None:
    """Answer the caller: at once, or after a worker thread has run the hooks of this transition."""
    if _LOGGER.isEnabledFor(logging.DEBUG):  # saves making a logger
        get_logger("agent").debug(
            "transition", transition=done.event_type, agent=done.agent, seq=done.seq, session_id=done.session_id
        )
    hooks = services.hooks.registered(done.event_type)
    if not hooks:
        envelope.answer(done.result(envelope.sent_at))
        return
    event = done.event()

    def run() -> None:
        errors = run_hooks(hooks, event, services.settings.hook_timeout, services.thread_pool, services.loop)
        reported = evolve(done, data={**done.data, "hook_errors": errors}) if errors else done
        envelope.answer(reported.result(envelope.sent_at))

    services.thread_pool.submit(run)


def with_duration(result: LifecycleResult, envelope: Envelope) -> LifecycleResult:
    """The result with the time since its message was sent."""
    return evolve(result, duration_ms=(time() - envelope.sent_at) * 1000)
