"""Telling hooks, and then the caller, of a lifecycle transition that is committed."""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING, Final

from attrs import evolve

from duramen.events.logs import get_logger

from .hooks import run_hooks
from .mailbox import Envelope
from .results import LifecycleResult
from .transition import Transition

if TYPE_CHECKING:
    from .services import Services

__all__ = ["announce", "timed"]

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
        errors = run_hooks(hooks, event, services.settings.hook_timeout, services.workers, services.loop)
        told = evolve(done, data={**done.data, "hook_errors": errors}) if errors else done
        envelope.answer(told.result(envelope.sent_at))

    services.workers.submit(tell)


def timed(result: LifecycleResult, envelope: Envelope) -> LifecycleResult:
    """The result with the time since its message was sent."""
    return evolve(result, duration_ms=(time() - envelope.sent_at) * 1000)
