"""Work is parked where its handler cannot go on by itself: it waits for somebody to retry or to cancel it."""

from __future__ import annotations

from functools import partial

from duramen.events import DuramenError, NewEvent, WorkParked
from duramen.events.codec import to_datetime
from duramen.events.logging import get_logger
from duramen.events.model import WORK_PARKED
from duramen.projections.state import Piece, open_work

from ..commands import LifecycleEvent, kind_of
from ..handlers import Services, Turn, run_hooks


def park(turn: Turn, work: int, error: DuramenError) -> None:
    """Log that work is parked because of an error."""
    get_logger("work").error("work_parked", agent=turn.agent, seq=work, error=kind_of(error))
    log_parked(turn, parked_event(work, kind_of(error), str(error), error))


def parked_event(work: int, kind: str, text: str, error: DuramenError | None = None) -> NewEvent:
    """Make the event of work that is parked."""
    expected, actual = (None, None) if error is None else (error.expected, error.actual)
    why = {"kind": kind, "text": text, "expected": expected, "actual": actual}
    return NewEvent(WORK_PARKED, {"work": work, "error": why})


def log_parked(turn: Turn, event: NewEvent) -> None:
    """Log that work is parked, and have it counted and the hooks called after the commit."""
    state, work, error = turn.state, event.data["work"], event.data["error"]
    message_type = open_work(state)[str(work)]["message_type"]
    turn.emit(event)
    parked = LifecycleEvent(
        event_type="park",
        agent=turn.agent,
        session_id=state.session_id,
        agent_type=state.agent_type,
        seq=state.seq,
        time=to_datetime(turn.updated_at),
        data={"work": work, "message_type": message_type, "error": error["kind"], "text": error["text"]},
        metadata=turn.codec.copy(state.metadata),
    )
    turn.effects += (partial(_report_parked, turn.services, parked),)


def _report_parked(services: Services, event: LifecycleEvent) -> None:
    """Count work that is parked, and call the hooks; in a worker thread."""

    def count() -> None:
        services.counts.parked += 1

    services.dispatcher.post(count)
    hooks = services.hooks.registered(event.event_type)
    run_hooks(hooks, event, services.settings.hook_timeout, services.thread_pool, services.loop)


def parked_error(agent: str, work: int, piece: Piece) -> WorkParked:
    """The error for callers that wait for parked work."""
    parked = piece["parked"]
    return WorkParked(
        f"work {work} of {agent} is parked: {parked['text']}",
        agent=agent,
        seq=work,
        expected=parked["expected"],
        actual=parked["actual"],
    )
