"""How an agent handles messages about its working memory and activity."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast

from duramen.events import (
    InvalidMessage,
    Limits,
    NewEvent,
    PropertyPath,
    Receipt,
    property_segments,
)
from duramen.events.logging import get_logger
from duramen.events.model import as_stored, printable
from duramen.projections import AgentState
from duramen.projections.state import copy_tree, find, find_wait, name_log

from ...commands import (
    DECIDERS,
    Accept,
    Answer,
    Batch,
    Decide,
    Get,
    GetMany,
    GetReminders,
    GetStatus,
    GetUnfinished,
    Keys,
    Length,
    Pop,
    Remind,
    RemoveReminder,
    RetryWork,
    SetGranularity,
    SetRetention,
    Slice,
    decide_accept,
    decide_answer,
    decide_pop,
    decide_remind,
    decide_remove_reminder,
    decide_retry,
    decide_set_granularity,
    decide_set_retention,
    require_running,
    require_seq,
    with_metadata,
)
from ..turn import NeedsWorker, Turn
from .reads import READS, Read
from .stored_reply import read_reply, store_reply


def apply_operation(turn: Turn, operation: Any, metadata: Mapping[str, Any] | None = None) -> None:
    """Emit the events of one operation of a batch or of a handler, with metadata of the batch and of its own.

    Raises InvalidMessage for another message.
    """
    decide = DECIDERS.get(cast("type[Any]", type(operation)))
    if decide is None:
        names = [kind.__name__ for kind in DECIDERS]
        raise InvalidMessage(f"a batch takes {', '.join(names[:-1])} and {names[-1]}, not {type(operation).__name__}")
    path = getattr(operation, "path", "")
    if type(path) is not str or "." in path:
        warn_of_dots(turn, path)
    limits = turn.services.limits
    events = decide(turn.state, operation, limits, turn.agent)
    for given in (metadata, operation.metadata):
        if given is not None:
            events = with_metadata(events, given, limits)
    for event in events:
        turn.emit(event)


def pop_value(turn: Turn, message: Pop) -> Any:
    """Take a value out of the working memory, and return a copy of it. Raises PathNotFound without a default."""
    limits = turn.services.limits
    value, events = decide_pop(turn.state, message, limits, turn.agent)
    popped = copy_tree(value)
    for event in events if message.metadata is None else with_metadata(events, message.metadata, limits):
        turn.emit(event)
    return popped


def handle_pop(turn: Turn, message: Pop) -> Any:
    """Pop a value, or reply what the same command has popped before; blocks for a command id."""
    warn_of_dots(turn, message.path)
    turn.choose_durability(message.durability)
    if message.command_id is not None:
        known = turn.find_command(message.command_id, message)
        if known is not None:
            return turn.codec.copy_for_reply(read_reply(turn, known))
    if message.expected_seq is not None:
        require_seq(turn.state, message.expected_seq, turn.agent)
    if message.command_id is None:
        return turn.codec.copy_for_reply(pop_value(turn, message))
    with turn.savepoint():
        popped = pop_value(turn, message)
        store_reply(turn, as_stored(popped))
    return turn.codec.copy_for_reply(popped)


def warn_of_dots(turn: Turn, path: object) -> None:
    """Warn of a new key such as `plan.steps` beside a dict or list `plan`: it was meant to be a path."""
    if "." not in str(path):
        return
    segments = property_segments(cast("str | PropertyPath", path))
    for depth, segment in enumerate(segments):
        parent = find(turn.state.memory, segments[:depth])
        name, dot, _ = segment.partition(".")
        if dot and type(parent) is dict and segment not in parent and type(parent.get(name)) in (dict, list):
            log = get_logger("agent")
            advice = f"'/' separates the parts of a path, and '{printable(name)}' is there"
            log.warning("path_with_dots", agent=turn.agent, path=printable(str(path)), advice=advice)
            return


def _on_batch(turn: Turn, message: Batch) -> Receipt:
    operations = cast("object", message.operations)
    if not isinstance(operations, (list, tuple)):
        raise InvalidMessage("a batch's operations are a list of messages", actual=type(operations).__name__)
    if any(getattr(operation, "command_id", None) is not None for operation in message.operations):
        raise InvalidMessage("the operations of a batch have no command ids of their own; give the batch one")
    if any(getattr(operation, "durability", None) is not None for operation in message.operations):
        raise InvalidMessage("the operations of a batch have no durability of their own; give the batch one")
    if any(getattr(operation, "expected_seq", None) is not None for operation in message.operations):
        raise InvalidMessage("the operations of a batch have no expected_seq of their own; give the batch one")
    durability = turn.choose_durability(message.durability)
    if message.command_id is not None:
        known = turn.find_command(message.command_id, message)
        if known is not None:
            return known._replace(durability=durability)
    state = turn.state
    if message.expected_seq is not None:
        require_seq(state, message.expected_seq, turn.agent)
    require_running(state, turn.agent)
    first = state.seq + 1
    with turn.savepoint():
        for operation in message.operations:
            apply_operation(turn, operation, message.metadata)
    return Receipt(turn.agent, first, state.seq, state.digest, durability)


def _read(read: Read) -> Callable[[Turn, Any], Any]:
    return lambda turn, message: read(turn.state, message, turn.agent, turn.codec)


def _mutation(kind: type[Any], decide: Decide) -> Callable[[Turn, Any], Any]:
    """The handler of a message that is a mutation; one with a path looks for dots in it."""

    def mutate(turn: Turn, message: Any) -> Any:
        return turn.mutate(message, decide)

    def mutate_at(turn: Turn, message: Any) -> Any:
        path = message.path
        if type(path) is not str or "." in path:
            warn_of_dots(turn, path)
        return turn.mutate(message, decide)

    return mutate_at if hasattr(kind, "path") else mutate


Check = Callable[[int, int, Any], None]
"""Raises AnswerRefused if the handler of a work does not accept a value for what it has begun under a number."""

_CHECK: Final[ContextVar[Check | None]] = ContextVar("duramen_check_of_answers", default=None)


@contextmanager
def checking_answers(check: Check) -> Generator[None]:
    """Have answers checked that are handled in this block."""
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def _answer(turn: Turn, message: Answer) -> Receipt:
    return turn.mutate(message, _decide_checked_answer)


def _decide_checked_answer(state: AgentState, message: Answer, limits: Limits, agent: str) -> list[NewEvent]:
    events = decide_answer(state, message, limits, agent)
    wait = find_wait(state, message.name, message.work)
    if wait is not None and wait[2].get("checked"):
        check = _CHECK.get()
        if check is None:
            raise NeedsWorker
        check(int(wait[0]), int(wait[1]), message.value)
    return events


def accept_work(turn: Turn, message: Accept) -> Receipt:
    """Accept a durable message; its work is begun after the commit."""
    before = turn.position
    receipt = turn.mutate(message, partial(decide_accept, log=name_log(turn.services.log.identity, turn.agent)))
    if receipt.seq > before:  # else it is a repetition
        turn.runtime.note_accepted(receipt.seq, turn.items[-1])
    return receipt


def _retry_work(turn: Turn, message: RetryWork) -> Receipt:
    return turn.mutate(message, partial(decide_retry, log=name_log(turn.services.log.identity, turn.agent)))


def set_reminder(turn: Turn, message: Remind) -> None:
    """Set a reminder within a handler's batch. Raises MailboxFull, ValueRefused, TooLarge."""
    for event in _deciding_remind(turn)(turn.state, message, turn.services.limits, turn.agent):
        turn.emit(event)


def remove_reminder(turn: Turn, name: str) -> None:
    """Remove a reminder within a handler's batch."""
    for event in decide_remove_reminder(turn.state, RemoveReminder(name), turn.services.limits, turn.agent):
        turn.emit(event)


def _deciding_remind(turn: Turn) -> Decide:
    return partial(decide_remind, log=name_log(turn.services.log.identity, turn.agent))


OWN_MEMORY_HANDLERS: Final[Mapping[type[Any], Callable[[Turn, Any], Any]]] = {
    **{kind: _mutation(kind, decide) for kind, decide in DECIDERS.items()},
    Batch: _on_batch,
    SetGranularity: _mutation(SetGranularity, decide_set_granularity),
    SetRetention: _mutation(SetRetention, decide_set_retention),
    Accept: accept_work,
    Answer: _answer,
    RetryWork: _retry_work,
    Remind: lambda turn, message: turn.mutate(message, _deciding_remind(turn)),
    RemoveReminder: _mutation(RemoveReminder, decide_remove_reminder),
    **{kind: _read(READS[kind]) for kind in (Get, GetMany, Keys, Length, Slice)},
    **{kind: _read(READS[kind]) for kind in (GetStatus, GetUnfinished, GetReminders)},
}
