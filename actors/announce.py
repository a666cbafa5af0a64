"""Telling hooks, and then the caller, of a lifecycle transition that is committed."""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING

from attrs import evolve

from duramen.events.logs import get_logger

from .hooks import run_hooks
from .mailbox import Envelope
from .results import LifecycleResult
from .turn import Transition

if TYPE_CHECKING:
    from .services import Services

__all__ = ["announce", "timed"]


def announce(services: Services, envelope: Envelope, done: Transition) -> None:
    """Answer the caller when the hooks, if there are any, have run in a worker thread."""
    event = done.event
    if logging.getLogger("duramen.agent").isEnabledFor(logging.DEBUG):  # else a logger would be made for nothing
        get_logger("agent").debug(
            "transition", transition=event.event_type, agent=event.agent, seq=event.seq, session_id=event.session_id
        )
    hooks = services.hooks.of(event.event_type)
    if not hooks:
        envelope.answer(timed(done.result, envelope))
        return

    def tell() -> None:
        errors = run_hooks(hooks, event, services.settings.hook_timeout, services.workers, services.loop)
        data = {**done.result.data, "hook_errors": errors} if errors else done.result.data
        envelope.answer(timed(evolve(done.result, data=data), envelope))

    services.workers.submit(tell)


def timed(result: LifecycleResult, envelope: Envelope) -> LifecycleResult:
    """The result with the time since its message was sent."""
    return evolve(result, duration_ms=(time() - envelope.sent_at) * 1000)
