"""The read-only state of an agent at a seq of its past."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from duramen.events import Granularity, PathNotFound, PropertyPath, property_segments
from duramen.events.codec import to_datetime
from duramen.events.model import same_value

from ..state import REQUIRED, AgentState, ReadOnlyDict, copy_tree, lookup, read_only


class PastState:
    """The state of one agent after the event at `seq`; at 0, before there was any.

    Read-only at every depth; later events never change it. Two are equal if memory, lifecycle and custom state are
    equal, types included. Not hashable.
    """

    __slots__ = ("_agent", "_custom", "_state")

    def __init__(self, agent: str, state: AgentState, custom: Any) -> None:
        """Nothing may change `state` and `custom` after this call."""
        self._agent = agent
        self._state = state
        self._custom = custom

    def __repr__(self) -> str:
        return f"<PastState {self._agent} at {self.seq}, {self.status}, items: {len(self._state.memory)}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PastState):
            return NotImplemented
        one, two = self._state, other._state
        return (
            self._agent == other._agent
            and all(getattr(one, name) == getattr(two, name) for name in _COMPARED)
            and same_value(one.memory, two.memory)
            and same_value(one.metadata, two.metadata)
            and same_value(self._custom, other._custom)
        )

    def __hash__(self) -> int:
        raise TypeError("a PastState is not hashable, as its memory is not")

    # -- working memory --------------------------------------------------------------------------------------------

    @property
    def memory(self) -> ReadOnlyDict:
        """Working memory."""
        return ReadOnlyDict(self._state.memory)

    def get(self, path: str | PropertyPath = "", default: Any = REQUIRED) -> Any:
        """The value at a property path, as a copy of plain data that is the caller's. Raises PathNotFound."""
        try:
            return copy_tree(lookup(self._state.memory, property_segments(path)))
        except PathNotFound:
            if default is REQUIRED:
                raise
            return default

    def keys(self, path: str | PropertyPath = "") -> list[str]:
        """The keys of the dict at a path, sorted, the positions of a list, nothing of a scalar. Raises PathNotFound."""
        value = lookup(self._state.memory, property_segments(path))
        if isinstance(value, dict):
            return sorted(value)
        return [str(index) for index in range(len(value))] if isinstance(value, list) else []

    @property
    def custom(self) -> Any:
        """The custom state, which `apply` of the agent's class folds; None where the class is not registered here."""
        return read_only(self._custom)

    # -- lifecycle -------------------------------------------------------------------------------------------------

    @property
    def agent(self) -> str:
        """The agent path, as text."""
        return self._agent

    @property
    def seq(self) -> int:
        return self._state.seq

    @property
    def digest(self) -> bytes:
        """The digest of the event at `seq`; it identifies all events up to there."""
        return self._state.digest

    @property
    def time(self) -> datetime | None:
        """When the event at `seq` was written; None at 0."""
        return to_datetime(self._state.updated_at) if self._state.seq else None

    @property
    def status(self) -> str:
        """`absent`, `running`, `paused`, `terminated` or `failed`."""
        return self._state.status

    @property
    def session_id(self) -> str | None:
        return self._state.session_id

    @property
    def session_first_seq(self) -> int:
        """The seq where the session began; 0 before the first."""
        return self._state.session_first_seq

    @property
    def started_at(self) -> datetime | None:
        """When the session began."""
        return to_datetime(self._state.started_at) if self._state.session_first_seq else None

    @property
    def agent_type(self) -> str | None:
        return self._state.agent_type

    @property
    def metadata(self) -> ReadOnlyDict:
        return ReadOnlyDict(self._state.metadata)

    @property
    def parent(self) -> str | None:
        return self._state.parent

    @property
    def children(self) -> Mapping[str, bool]:
        """Sub-agents of the session by path, and whether each may outlive it."""
        return ReadOnlyDict(self._state.children)

    @property
    def granularity(self) -> Granularity:
        return Granularity(self._state.granularity)

    @property
    def levels(self) -> Mapping[str, Granularity]:
        """Granularity by kind of activity, where it differs."""
        return {kind: Granularity(level) for kind, level in self._state.levels.items()}

    @property
    def paused_at(self) -> str | None:
        """The checkpoint the agent was paused at."""
        return self._state.paused_at

    @property
    def checkpoints(self) -> Mapping[str, int]:
        """The seq of the pause that took each checkpoint, by id, oldest first; also of expired ones."""
        return {name: entry[0] for name, entry in self._state.checkpoints.items()}

    def as_data(self) -> dict[str, Any]:
        """A copy as plain data."""
        return {
            "agent": self._agent,
            "seq": self.seq,
            "digest": self.digest.hex(),
            "time": self.time,
            "status": self.status,
            "session_id": self.session_id,
            "agent_type": self.agent_type,
            "metadata": copy_tree(self._state.metadata),
            "parent": self.parent,
            "children": dict(self._state.children),
            "paused_at": self.paused_at,
            "checkpoints": dict(self.checkpoints),
            "memory": copy_tree(self._state.memory),
            "custom": copy_tree(self._custom),
        }


_COMPARED: Final = (
    "seq",
    "digest",
    "status",
    "session_id",
    "agent_type",
    "parent",
    "session_first_seq",
    "started_at",
    "updated_at",
    "granularity",
    "levels",
    "when_paused",
    "paused_at",
    "children",
    "checkpoints",
)
