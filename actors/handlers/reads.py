"""The messages that only look at an agent: their replies are made of its state alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from duramen.events import Granularity, InvalidPath, PropertyPath, property_segments
from duramen.events.codec import Codec, to_datetime
from duramen.events.log import EventLog
from duramen.projections import AgentState
from duramen.projections.state import MISSING, REQUIRED, find, lookup

from ..commands import AgentStatus, Checkpoint, Get, GetStatus, Keys, ListCheckpoints, require_known

Read = Callable[[AgentState, Any, str, Codec], Any]
"""Makes the reply of state, message and agent path; it shares no container with the state."""


def _get(state: AgentState, message: Get, agent: str, codec: Codec) -> Any:
    require_known(state, agent)
    segments = property_segments(message.path)
    if message.default is REQUIRED:
        return codec.copy(lookup(state.memory, segments))
    found = find(state.memory, segments)
    return message.default if found is MISSING else codec.copy(found)


def keys_at(state: AgentState, path: str | PropertyPath, agent: str) -> list[str]:
    """The keys of the subtree at a property path. Raises PathNotFound, InvalidPath."""
    found = lookup(state.memory, property_segments(path))
    if type(found) is not dict:
        raise InvalidPath(f"{str(path)[:80]!r} is not a subtree and has no keys", agent=agent)
    return list(found)


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


READS: Final[Mapping[type[Any], Read]] = {Get: _get, Keys: _keys, GetStatus: _status, ListCheckpoints: _checkpoints}


def drop_expired(log: EventLog, agent: str, found: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that the server still has. Blocks."""
    present = log.exists([log.checkpoint_key(agent, each.checkpoint_id) for each in found])
    return [each for each, exists in zip(found, present, strict=True) if exists]
