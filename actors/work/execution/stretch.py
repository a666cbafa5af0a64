"""One stretch of a durable handler in a turn: it goes on with a result, to where it waits next, or to its end."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from duramen.events import NewEvent
from duramen.events.model import WORK_CONTINUED

from ...commands import CancelAsked
from ...handlers import Savepoint, Turn
from .execution import Execution


@frozen(eq=False)
class HandlerEnd:
    """The end of a handler: what it has returned, or raised."""

    value: Any
    error: BaseException | None


def run_stretch(
    turn: Turn,
    execution: Execution,
    number: int,
    result: Any,
    error: Mapping[str, Any] | None,
    *,
    given_up: Callable[[str], object],
    metadata: dict[str, Any] | None = None,
) -> HandlerEnd | None:
    """Let a handler go on with a result, and log what it does, or only that it went on, if it fails. None: it waits.

    `given_up` is called with the key of each step that it does not wait for any more.
    """
    saved = Savepoint(turn)
    begun = execution.begun.get(number)
    work = execution.identity.work
    cause = execution.cause_of(work if begun is None else begun.seq)
    data = {"work": work, "number": number, "result": result, "error": error}
    continued = NewEvent(WORK_CONTINUED, data, metadata=metadata)
    turn.cause = cause
    turn.emit(continued)
    execution.go_on(number, result, error, turn=turn, seq=turn.state.seq, now=turn.updated_at)
    dropped = execution.log_given_up(turn)
    end = _end_of(turn, execution, saved)
    turn.undo = None
    if end is not None and end.error is not None and not isinstance(end.error, CancelledError):
        saved.restore(turn)
        turn.cause = cause
        turn.emit(continued)
    for begun in dropped:
        given_up(begun.key)
        if begun.is_told_at_once:
            turn.send(begun.name, CancelAsked(begun.key))
    return end


def _end_of(turn: Turn, execution: Execution, saved: Savepoint) -> HandlerEnd | None:
    try:
        saved.check_size(turn)
        return HandlerEnd(execution.loop.result(), None) if execution.loop.ended else None
    except BaseException as error:
        return HandlerEnd(None, error)
