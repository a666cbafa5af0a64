"""The state of one agent, and how it is kept in snapshots. `advance` folds its events.

    absent ──spawned──▶ running ──paused──▶ paused
                          ▲  ▲                │ │
                          │  └────resumed─────┘ │
               spawned    │                     │
                          └── terminated ◀──────┴── (from running too)

running ──failed──▶ failed ──restarted──▶ running; terminated from there as well.

From any but absent: ──expired──▶ terminated, and then erased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

from attrs import define, field, fields

from duramen.events import Granularity
from duramen.events.codec import NO_DIGEST, Codec
from duramen.events.log import Line, pack_line

ABSENT: Final = "absent"
RUNNING: Final = "running"
PAUSED_STATUS: Final = "paused"
TERMINATED_STATUS: Final = "terminated"
FAILED_STATUS: Final = "failed"

SCHEMA: Final = "state-1"
"""The form of `AgentState.dump`. Snapshots of another form are ignored."""


def _empty() -> dict[str, Any]:
    # `dict[str, Any]` as a factory takes five times as long, and every agent has six of these.
    return {}


def message_type_of(found: Mapping[str, Any]) -> str:
    """The type of the durable message that an event or a piece of work has; older logs call it `message`."""
    name: str = found["message_type"] if "message_type" in found else found["message"]
    return name


@define(eq=False)
class AgentState:
    """All that the log of one agent has led to. `memory` is its working memory: plain data, changed in place."""

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
    """How much of its log is kept, `events` and `days`; None: the retention of the system."""
    when_paused: str = "refuse"
    paused_at: str | None = None
    """The checkpoint the agent is paused at."""
    children: dict[str, bool] = field(factory=_empty)
    """Sub-agents of this session by path, and whether each may outlive it."""
    memory: dict[str, Any] = field(factory=_empty)
    nodes: int = 1
    """The number of values in working memory, containers included."""
    checkpoints: dict[str, list[Any]] = field(factory=_empty)
    """By id, oldest first: [seq, time µs, keys, expires at µs or None, metadata, digest before], and of a cascade its
    [id, levels above this agent where it began].

    The next pause removes expired ones.
    """
    commands: dict[str, list[Any]] = field(factory=_empty)
    """The latest command ids, oldest first: [first seq, last seq, digest, fingerprint]."""
    expires_after: float | None = None
    """Seconds without an event after which the agent is erased; None: never. 0: it has expired."""
    work: dict[str, Any] = field(factory=_empty)
    """The work of durable messages, in the form that `projections/state/work.py` describes; empty: there never was any.

    Events replace what they change of it.
    """

    def directory_line(self, codec: Codec, *, needs_class: bool = False) -> bytes:
        """The agent's line in the directory."""
        packed = codec.pack(self.metadata)
        return pack_line(Line(self.status, self.agent_type, self.session_id, needs_class, packed), codec)

    def dump(self) -> dict[str, Any]:
        """The fields as plain data, for a snapshot. Shares its containers with the state."""
        return {name: getattr(self, name) for name in _FIELDS}

    def copy(self) -> AgentState:
        """A state with the same fields, which shares their containers; in a quarter of the time of `attrs.evolve`."""
        return AgentState(*_values_of(self))

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> AgentState:
        """A state from plain data, which it then owns. Raises TypeError for data of another form than `dump` makes."""
        state, fresh = cls(**dumped), cls()
        for name in _FIELDS:
            kind: type[Any] = getattr(fresh, name).__class__
            if kind in (dict, bytes) and type(getattr(state, name)) is not kind:
                raise TypeError(f"{name} is not a {kind.__name__}")
            if issubclass(kind, int) and type(getattr(state, name)) is not int:
                raise TypeError(f"{name} is not a number")
        try:
            for found in (*state.work.get("open", {}).values(), *state.work.get("reminders", {}).values()):
                found["message_type"] = message_type_of(found)  # snapshots have the name that their logs had
                found.pop("message", None)
        except (AttributeError, KeyError) as error:
            raise TypeError("work is of another form") from error
        return state

    def logs(self, kind: str, level: int) -> bool:
        """Whether activity of this kind and level is logged for this agent."""
        return level <= self.levels.get(kind, self.granularity)


_FIELDS: Final = tuple(found.name for found in fields(AgentState))
_values_of: Final[Callable[[AgentState], tuple[Any, ...]]] = attrgetter(*_FIELDS)
