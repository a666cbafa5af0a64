"""The messages that only look at an agent: their replies are made of its state alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from attrs import evolve

from duramen.events import Granularity, InvalidMessage, InvalidPath, PropertyPath, property_segments
from duramen.events.codec import Codec, to_datetime
from duramen.events.log import EventLog
from duramen.events.model import WithContents
from duramen.projections import AgentState
from duramen.projections.recovery import LogNames
from duramen.projections.state import ASK, MISSING, REQUIRED, find, lookup

from ...commands import (
    AgentStatus,
    Checkpoint,
    Get,
    GetMany,
    GetReminders,
    GetStatus,
    GetUnfinished,
    Keys,
    Length,
    ListCheckpoints,
    Reminder,
    Slice,
    UnfinishedWork,
    reminders_of,
    require_known,
    unfinished_of,
)

Read = Callable[[AgentState, Any, str, Codec], Any]
"""Makes the reply of state, message and agent path; it shares no container with the state."""


def _get(state: AgentState, message: Get, agent: str, codec: Codec) -> Any:
    require_known(state, agent)
    segments = property_segments(message.path)
    if message.default is REQUIRED:
        return codec.copy_for_reply(lookup(state.memory, segments))
    found = find(state.memory, segments)
    return message.default if found is MISSING else codec.copy_for_reply(found)


def keys_at(state: AgentState, path: str | PropertyPath, agent: str) -> list[str]:
    """The keys of the subtree at a property path. Raises PathNotFound, InvalidPath."""
    found = lookup(state.memory, property_segments(path))
    if type(found) is not dict:
        raise InvalidPath(f"{str(path)[:80]!r} is not a subtree and has no keys", agent=agent)
    return list(found)


def values_at(state: AgentState, paths: object, default: Any) -> list[Any]:
    """The values at property paths, parts of the state still. Raises PathNotFound without a default, InvalidPath."""
    if not isinstance(paths, (list, tuple)):
        raise InvalidPath("several values are read by a list of property paths", actual=type(paths).__name__)
    every = [property_segments(path) for path in cast("Sequence[str | PropertyPath]", paths)]
    if default is REQUIRED:
        return [lookup(state.memory, segments) for segments in every]
    found = [find(state.memory, segments) for segments in every]
    return [default if value is MISSING else value for value in found]


def _get_many(state: AgentState, message: GetMany, agent: str, codec: Codec) -> Any:
    require_known(state, agent)
    default = message.default
    found = values_at(state, message.paths, default)
    copies = [value if value is default else codec.copy_for_reply(value) for value in found]
    if not any(type(copied) is WithContents for copied in copies):
        return copies
    return WithContents([copied.value if type(copied) is WithContents else copied for copied in copies])


def length_of(state: AgentState, path: str | PropertyPath, agent: str) -> int:
    """The number of elements or keys at a property path. Raises PathNotFound, InvalidPath for a scalar."""
    found = lookup(state.memory, property_segments(path))
    if type(found) is not list and type(found) is not dict:
        raise InvalidPath(f"{str(path)[:80]!r} is neither a list nor a dict and has no length", agent=agent)
    return len(found)


def _length(state: AgentState, message: Length, agent: str, codec: Codec) -> int:
    require_known(state, agent)
    return length_of(state, message.path, agent)


def slice_of(state: AgentState, message: Slice, agent: str) -> list[Any]:
    """A part of the list at a property path, elements shared with the state. Raises PathNotFound, InvalidPath."""
    found = lookup(state.memory, property_segments(message.path))
    if type(found) is not list:
        raise InvalidPath(f"{str(message.path)[:80]!r} is not a list and has no slices", agent=agent)
    for bound in (message.start, message.stop):
        if bound is not None and type(bound) is not int:
            raise InvalidMessage("a slice goes from a whole number to a whole number, or None", agent=agent)
    return found[message.start : message.stop]


def _slice(state: AgentState, message: Slice, agent: str, codec: Codec) -> Any:
    require_known(state, agent)
    return codec.copy_for_reply(slice_of(state, message, agent))


def _keys(state: AgentState, message: Keys, agent: str, codec: Codec) -> list[str]:
    require_known(state, agent)
    return keys_at(state, message.path, agent)


def _status(state: AgentState, message: GetStatus, agent: str, codec: Codec) -> AgentStatus:
    require_known(state, agent)
    return AgentStatus(
        agent=agent,
        status=state.status,
        agent_type=state.agent_type,
        session_id=state.session_id,
        seq=state.seq,
        digest=state.digest,
        updated_at=to_datetime(state.updated_at),
        items=len(state.memory),
        granularity=Granularity(state.granularity),
        metadata=codec.copy(state.metadata),
    )


def _checkpoints(state: AgentState, message: ListCheckpoints, agent: str, codec: Codec) -> list[Checkpoint]:
    """All checkpoints that the state knows, newest first; some may have expired: see `drop_expired`."""
    require_known(state, agent)
    return [_checkpoint(name, state.checkpoints[name], codec) for name in reversed(state.checkpoints)]


def _checkpoint(name: str, entry: list[Any], codec: Codec) -> Checkpoint:
    seq, time, keys, expires, metadata, *_ = entry
    return Checkpoint(
        checkpoint_id=name,
        timestamp=to_datetime(time),
        keys_count=keys,
        seq=seq,
        expires_at=None if expires is None else to_datetime(expires),
        metadata=codec.copy(metadata),
    )


def _unfinished(state: AgentState, message: GetUnfinished, agent: str, codec: Codec) -> list[UnfinishedWork]:
    require_known(state, agent)
    return unfinished_of(state, agent)


def _reminders(state: AgentState, message: GetReminders, agent: str, codec: Codec) -> list[Reminder]:
    require_known(state, agent)
    return reminders_of(state, agent)


READS: Final[Mapping[type[Any], Read]] = {
    Get: _get,
    GetMany: _get_many,
    Keys: _keys,
    Length: _length,
    Slice: _slice,
    GetStatus: _status,
    ListCheckpoints: _checkpoints,
    GetUnfinished: _unfinished,
    GetReminders: _reminders,
}


def with_paths(found: Sequence[UnfinishedWork], names: LogNames) -> list[UnfinishedWork]:
    """The same work, with the paths of agents that are asked in place of the ids of their logs. Blocks."""
    return [evolve(work, waits_for=tuple(_with_path(item, names) for item in work.waits_for)) for work in found]


def _with_path(item: Mapping[str, Any], names: LogNames) -> Mapping[str, Any]:
    return {**item, "name": names.path(item["name"])} if item["kind"] == ASK else item


def drop_expired(log: EventLog, agent: str, found: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that the server still has. Blocks."""
    present = log.exists([log.checkpoint_key(agent, each.checkpoint_id) for each in found])
    return [each for each, exists in zip(found, present, strict=True) if exists]
