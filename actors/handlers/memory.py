"""How an agent handles messages about its working memory and activity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from duramen.events import Granularity, InvalidMessage, InvalidPath, PathNotFound, Receipt, property_segments
from duramen.events.codec import to_datetime
from duramen.projections.state import REQUIRED, lookup

from ..commands import (
    AgentStatus,
    Append,
    Batch,
    Delete,
    Get,
    GetStatus,
    Keys,
    Merge,
    Record,
    Set,
    SetGranularity,
    SetRetention,
    decide_append,
    decide_delete,
    decide_merge,
    decide_record,
    decide_set,
    decide_set_granularity,
    decide_set_retention,
    require_known,
    require_running,
)
from .turn import Decide, Turn

__all__ = ["MEMORY_HANDLERS", "MUTATIONS", "apply_operation"]

_DECIDE: Final[Mapping[type[Any], Decide]] = {
    Set: decide_set,
    Delete: decide_delete,
    Append: decide_append,
    Merge: decide_merge,
    Record: decide_record,
}


def _on_set(turn: Turn, message: Set) -> Receipt:
    return turn.mutate(message, decide_set)


def _on_delete(turn: Turn, message: Delete) -> Receipt:
    return turn.mutate(message, decide_delete)


def _on_append(turn: Turn, message: Append) -> Receipt:
    return turn.mutate(message, decide_append)


def _on_merge(turn: Turn, message: Merge) -> Receipt:
    return turn.mutate(message, decide_merge)


def _on_record(turn: Turn, message: Record) -> Receipt:
    return turn.mutate(message, decide_record)


def _on_set_granularity(turn: Turn, message: SetGranularity) -> Receipt:
    return turn.mutate(message, decide_set_granularity)


def _on_set_retention(turn: Turn, message: SetRetention) -> Receipt:
    return turn.mutate(message, decide_set_retention)


def apply_operation(turn: Turn, operation: Any) -> None:
    """One operation as part of something larger. Raises InvalidMessage for what is none."""
    decide = _DECIDE.get(cast("type[Any]", type(operation)))
    if decide is None:
        raise InvalidMessage(f"a batch takes Set, Delete, Append, Merge and Record, not {type(operation).__name__}")
    runtime = turn.runtime
    for event in decide(turn.state, operation, runtime.services.limits, runtime.path):
        turn.emit(event)


def _on_batch(turn: Turn, message: Batch) -> Receipt:
    operations = cast("object", message.operations)
    if not isinstance(operations, (list, tuple)):
        raise InvalidMessage("a batch's operations are a list of messages", actual=type(operations).__name__)
    if any(getattr(operation, "command_id", None) is not None for operation in message.operations):
        raise InvalidMessage("the operations of a batch have no command ids of their own; give the batch one")
    if message.command_id is not None:
        known = turn.recognise(message.command_id, message)
        if known is not None:
            return known
    state, runtime = turn.state, turn.runtime
    require_running(state, runtime.path)
    first = state.seq + 1
    with turn.all_or_nothing():
        for operation in message.operations:
            apply_operation(turn, operation)
    return Receipt(runtime.path, first, state.seq, state.digest, turn.durability)


def _on_get(turn: Turn, message: Get) -> Any:
    require_known(turn.state, turn.runtime.path)
    segments = property_segments(message.path)
    try:
        return turn.codec.copy(lookup(turn.state.memory, segments))
    except PathNotFound:
        if message.default is REQUIRED:
            raise
        return message.default


def _on_keys(turn: Turn, message: Keys) -> list[str]:
    require_known(turn.state, turn.runtime.path)
    found = lookup(turn.state.memory, property_segments(message.path))
    if type(found) is not dict:
        raise InvalidPath(f"{str(message.path)[:80]!r} is not a subtree and has no keys", agent=turn.runtime.path)
    return list(found)


def _on_get_status(turn: Turn, message: GetStatus) -> AgentStatus:
    require_known(turn.state, turn.runtime.path)
    state = turn.state
    return AgentStatus(
        agent=turn.runtime.path,
        status=state.status,
        agent_type=state.agent_type,
        session_id=state.session_id,
        seq=state.seq,
        digest=state.digest,
        updated_at=to_datetime(state.updated_at),
        items=len(state.memory),
        granularity=Granularity(state.granularity),
        metadata=turn.codec.copy(state.metadata),
    )


MUTATIONS: Final = frozenset((Set, Delete, Append, Merge, Record, SetGranularity, Batch))
"""What a paused agent refuses, or stashes."""

MEMORY_HANDLERS: Final[Mapping[type[Any], Callable[[Turn, Any], Any]]] = {
    Set: _on_set,
    Get: _on_get,
    Append: _on_append,
    Record: _on_record,
    Delete: _on_delete,
    Merge: _on_merge,
    Batch: _on_batch,
    Keys: _on_keys,
    GetStatus: _on_get_status,
    SetGranularity: _on_set_granularity,
    SetRetention: _on_set_retention,
}
