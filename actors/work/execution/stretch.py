"""One stretch of a durable handler in a turn: it goes on with a result, to where it waits next, or to its end."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from attrs import frozen

from duramen.events import NewEvent
from duramen.events.model import WORK_CONTINUED

from ...commands import CancelAsked
from ...handlers import Savepoint, Turn, emit_packing
from ..messages import Continue
from .execution import Execution


@frozen(eq=False)
class HandlerEnd:
    """The end of a handler: what it has returned, or raised."""

    value: Any
    error: BaseException | None


def run_stretch(
    turn: Turn, execution: Execution, message: Continue, given: Any, given_up: Callable[[str], object]
) -> HandlerEnd | None:
    """Let a handler go on with a result, and log what it does, or only that it went on, if it fails. None: it waits.

    The handler is given `given`, which is the result of the message with all that stands beside the log. `given_up` is
    called with the key of each step that it does not wait for any more.
    """
    saved, number, error = Savepoint(turn), message.number, message.error
    begun = execution.begun.get(number)
    work = execution.identity.work
    cause = execution.cause_of(work if begun is None else begun.seq)
    data = {"work": work, "number": number, "result": message.result, "error": error}
    continued = NewEvent(WORK_CONTINUED, data, metadata=message.metadata)
    turn.cause = cause
    emit_packing(turn, continued, "result")
    execution.go_on(number, given, error, turn=turn, seq=turn.state.seq, now=turn.updated_at)
    dropped = execution.log_given_up(turn)
    end = _end_of(turn, execution, saved)
    turn.undo = None
    if end is not None and end.error is not None and not isinstance(end.error, CancelledError):
        saved.restore(turn)
        turn.cause = cause
        emit_packing(turn, continued, "result")
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
