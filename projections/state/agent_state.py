"""The state of one agent as its log tells it, and how each event changes it.

One fold serves all: the live actor, recovery, and whoever looks on from outside. It works on raw fields, in place;
`WorkingMemory` wraps it as a pure projection.

    absent ──spawned──▶ running ──paused──▶ paused
                          ▲  ▲                │ │
                          │  └────resumed─────┘ │
               spawned    │                     │
                          └── terminated ◀──────┴── (from running too)

running ──failed──▶ failed ──restarted──▶ running; terminated from there as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, fields

from duramen.events import Granularity, property_segments
from duramen.events.codec import NO_DIGEST, RawEvent, to_microseconds
from duramen.events.model import (
    CHILD_SPAWNED,
    FAILED,
    FORKED,
    GRANULARITY_SET,
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_RESTORED,
    MEMORY_SET,
    PAUSED,
    RESTARTED,
    RESUMED,
    RETENTION_SET,
    SPAWNED,
    TERMINATED,
)

from .operations import apply_ops
from .tree import assign, extend, merge, remove
from .undo import Undo, count_nodes, put_key

__all__ = [
    "ABSENT",
    "FAILED_STATUS",
    "PAUSED_STATUS",
    "RUNNING",
    "SCHEMA",
    "TERMINATED_STATUS",
    "AgentState",
    "advance",
]

ABSENT: Final = "absent"
RUNNING: Final = "running"
PAUSED_STATUS: Final = "paused"
TERMINATED_STATUS: Final = "terminated"
FAILED_STATUS: Final = "failed"

SCHEMA: Final = "state-1"
"""Of `AgentState.dump`. Snapshots of another schema are ignored."""


def _empty() -> dict[str, Any]:
    # `dict[str, Any]` as a factory takes five times as long, and every agent has five of these.
    return {}


@define(eq=False)
class AgentState:
    """Everything the log says about one agent. `memory` is its working memory: plain data, changed in place."""

    seq: int = 0
    digest: bytes = NO_DIGEST
    status: str = ABSENT
    session_id: str | None = None
    agent_type: str | None = None
    metadata: dict[str, Any] = field(factory=_empty)
    parent: str | None = None
    session_first_seq: int = 0
    started_at: int = 0
    """µs since the epoch."""
    updated_at: int = 0
    granularity: int = int(Granularity.ACTIVITY)
    levels: dict[str, int] = field(factory=_empty)
    """Granularity by kind of activity, where it differs."""
    retention: dict[str, Any] | None = None
    """How much of its log is kept, `events` and `days`; None: as the system keeps it."""
    when_paused: str = "refuse"
    paused_at: str | None = None
    """The checkpoint the agent is paused at."""
    children: dict[str, bool] = field(factory=_empty)
    """Sub-agents of this session by path, and whether each may outlive it."""
    memory: dict[str, Any] = field(factory=_empty)
    nodes: int = 1
    """Of the working memory: the values in it, containers included."""
    checkpoints: dict[str, list[Any]] = field(factory=_empty)
    """By id, oldest first: [seq, time µs, keys, expires at µs or None, metadata, digest before].

    Expired ones go at the next pause.
    """
    commands: dict[str, list[Any]] = field(factory=_empty)
    """The latest command ids, oldest first: [first seq, last seq, digest, fingerprint]."""

    def dump(self) -> dict[str, Any]:
        """As plain data, for a snapshot. Shares its containers with the state."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> AgentState:
        """From plain data, which becomes the state's own. Raises TypeError for what `dump` does not give."""
        state, fresh = cls(**dumped), cls()
        for name in _FIELDS:
            kind: type[Any] = getattr(fresh, name).__class__
            if kind in (dict, bytes) and type(getattr(state, name)) is not kind:
                raise TypeError(f"{name} is not a {kind.__name__}")
            if issubclass(kind, int) and type(getattr(state, name)) is not int:
                raise TypeError(f"{name} is not a number")
        return state

    def logs(self, kind: str, level: int) -> bool:
        """Whether activity of this kind and level is logged for this agent."""
        return level <= self.levels.get(kind, self.granularity)


_FIELDS: Final = tuple(found.name for found in fields(AgentState))

Apply = Callable[[AgentState, dict[str, Any], int, "list[Undo] | None"], None]


def _spawned(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.status = RUNNING
    state.session_id = data["session_id"]
    state.agent_type = data["agent_type"]
    state.metadata = data["metadata"]
    state.parent = data["parent"]
    state.session_first_seq = state.seq + 1
    state.started_at = time
    state.granularity = data["granularity"]
    state.levels = data["levels"]
    state.paused_at = None
    state.children = {}
    # What an earlier session kept stays; the new one's initial items are laid over it.
    state.memory = {**state.memory, **data["memory"]}
    state.nodes = count_nodes(state.memory)


def _paused(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.status = PAUSED_STATUS
    state.when_paused = data["when_paused"]
    state.paused_at = data["checkpoint_id"]
    expires = data["expires_at"]
    kept = {
        checkpoint_id: entry
        for checkpoint_id, entry in state.checkpoints.items()
        if checkpoint_id != data["checkpoint_id"] and (entry[3] is None or entry[3] > time)
    }
    kept[data["checkpoint_id"]] = [
        state.seq + 1,
        time,
        data["keys_count"],
        None if expires is None else to_microseconds(expires),
        data["metadata"],
        state.digest,  # of the event before this one: where the checkpoint's memory was taken
    ]
    state.checkpoints = kept


def _resumed(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.status = RUNNING
    state.paused_at = None


def _terminated(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.status = TERMINATED_STATUS
    state.paused_at = None
    if data["cleared"]:
        state.memory = {}
        state.nodes = 1


def _failed(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.status = FAILED_STATUS


def _restarted(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.status = RUNNING


def _forked(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    # Working memory goes on; what belongs to the origin alone does not: its session, checkpoints and sub-agents.
    if state.status != TERMINATED_STATUS:
        state.status = RUNNING
    state.session_id = data["session_id"]
    state.parent = data["parent"]
    state.session_first_seq = state.seq + 1
    state.started_at = time
    state.paused_at = None
    state.children = data["children"]
    state.checkpoints = {}


def _child_spawned(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.children = {**state.children, data["path"]: data["outlives"]}


def _granularity_set(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    if data["level"] is not None:
        state.granularity = data["level"]
    changed = {**state.levels, **data["levels"]}
    state.levels = {kind: level for kind, level in changed.items() if level is not None}


def _retention_set(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.retention = data["retention"]


def _deleted(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.nodes += remove(state.memory, property_segments(data["path"]), undo)


def _appended(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.nodes += extend(state.memory, property_segments(data["path"]), data["values"], undo)


def _merged(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.nodes += merge(state.memory, property_segments(data["path"]), data["patch"], undo)


def _restored(state: AgentState, data: dict[str, Any], time: int, undo: list[Undo] | None) -> None:
    state.nodes += apply_ops(state.memory, data["ops"], undo)


# But for MEMORY_SET, which `advance` sees to itself.
_APPLY: Final[dict[str, Apply]] = {
    MEMORY_APPENDED: _appended,
    MEMORY_DELETED: _deleted,
    MEMORY_MERGED: _merged,
    MEMORY_RESTORED: _restored,
    SPAWNED: _spawned,
    PAUSED: _paused,
    RESUMED: _resumed,
    TERMINATED: _terminated,
    FORKED: _forked,
    CHILD_SPAWNED: _child_spawned,
    FAILED: _failed,
    RESTARTED: _restarted,
    GRANULARITY_SET: _granularity_set,
    RETENTION_SET: _retention_set,
}


def advance(
    state: AgentState,
    event: RawEvent,
    digest: bytes,
    remembered: int,
    undo: list[Undo] | None = None,
) -> None:
    """Let the next event change the state, in place.

    Containers of the event's data become part of the state. `remembered` bounds the command ids kept. Changes to
    the working memory are noted in `undo`. An event that the state refuses raises before it has changed anything.
    Types that are not ours change nothing but the position.
    """
    if event[0] == MEMORY_SET:
        # What most logs are made of, and so replay, is spared the look-up and two calls: a fifth of its time.
        data = event[4]
        segments = property_segments(data["path"])
        if len(segments) == 1:
            state.nodes += put_key(state.memory, segments[0], data["value"], undo)
        else:
            state.nodes += assign(state.memory, segments, data["value"], undo)
    else:
        apply = _APPLY.get(event[0])
        if apply is not None:
            apply(state, event[4], event[3], undo)
    state.seq = seq = state.seq + 1
    state.digest = digest
    state.updated_at = event[3]
    command = event[6]
    if command is not None:
        entry = state.commands.get(command[0])
        if entry is None:
            state.commands[command[0]] = [seq, seq, digest, command[1]]
            if len(state.commands) > remembered:
                del state.commands[next(iter(state.commands))]
        else:
            entry[1] = seq
            entry[2] = digest
