"""The read-only state of an agent, now or at a seq of its past."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from duramen.events import Granularity, PathNotFound, PropertyPath, property_segments
from duramen.events.codec import to_datetime
from duramen.events.model import same_value

from ..state import REQUIRED, AgentState, ReadOnlyDict, copy_tree, lookup, read_only


class AgentView:
    """Working memory and lifecycle of one agent after the event at `seq`; at 0, before there was any.

    Read-only at every depth; later events never change it. Two are equal if memory and lifecycle are equal, types
    included. Not hashable.
    """

    __slots__ = ("_agent", "_state")

    def __init__(self, agent: str, state: AgentState) -> None:
        """Nothing may change `state` after this call."""
        self._agent = agent
        self._state = state

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} {self._agent} at {self.seq}, {self.status}, items: {len(self._state.memory)}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AgentView) or type(other) is not type(self):
            return NotImplemented
        one, two = self._state, other._state
        return (
            self._agent == other._agent
            and all(getattr(one, name) == getattr(two, name) for name in _COMPARED)
            and same_value(one.memory, two.memory)
            and same_value(one.metadata, two.metadata)
        )

    def __hash__(self) -> int:
        raise TypeError(f"{type(self).__name__} is not hashable, as its memory is not")

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
    def updated_at(self) -> datetime | None:
        """When the event at `seq` was written; None at 0."""
        return to_datetime(self._state.updated_at) if self._state.seq else None

    @property
    def time(self) -> datetime | None:
        """`updated_at`, by the name that the event itself has for it."""
        return self.updated_at

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
        """Sub-agents of the session by path, and whether each may outlive it.

        Of a past moment as the log names them, which may be before they are spawned.
        """
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

    def has_command(self, command_id: str) -> bool:
        """Whether the agent remembers a command of this id."""
        return command_id in self._state.commands

    def as_data(self) -> dict[str, Any]:
        """A copy as plain data."""
        return {
            "agent": self._agent,
            "seq": self.seq,
            "digest": self.digest.hex(),
            "updated_at": self.updated_at,
            "status": self.status,
            "session_id": self.session_id,
            "agent_type": self.agent_type,
            "metadata": copy_tree(self._state.metadata),
            "parent": self.parent,
            "children": dict(self._state.children),
            "paused_at": self.paused_at,
            "checkpoints": dict(self.checkpoints),
            "memory": copy_tree(self._state.memory),
        }


class PastState(AgentView):
    """An agent's state with the custom state, which its class folds; equal if that is equal too."""

    __slots__ = ("_custom",)

    def __init__(self, agent: str, state: AgentState, custom: Any) -> None:
        """Nothing may change `state` and `custom` after this call."""
        super().__init__(agent, state)
        self._custom = custom

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, PastState) and same_value(self._custom, other._custom)

    __hash__ = AgentView.__hash__

    @property
    def custom(self) -> Any:
        """The custom state, which `apply` of the agent's class folds; None where the class is not registered here."""
        return read_only(self._custom)

    def as_data(self) -> dict[str, Any]:
        """A copy as plain data."""
        return {**super().as_data(), "custom": copy_tree(self._custom)}


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
