"""Events folded into an agent's state, one after another: the one way from a log to a state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import evolve, frozen

from duramen.events import CorruptEvent, Limits
from duramen.events.codec import RawEvent
from duramen.events.model import OWN_TYPES, SPAWNED

from ..state import AgentState, advance, copy_tree

MISFITS: Final = (ValueError, TypeError, KeyError, IndexError)
"""The errors that folding raises for an event that does not fit the state before it."""


@frozen(eq=False, repr=False)
class CustomFold:
    """The fold of a user's own events into a custom state, next to working memory. Each session starts a new one.

    `version` names, among the folds of one agent type, the form of the custom state; snapshots of another form are
    ignored. Forms were once named `CLASS/VERSION`: snapshots of that form are read where it is `former_version`.
    """

    version: str
    initial: Callable[[], Any]
    apply: Callable[[Any, RawEvent], Any]
    former_version: str | None = None

    def reads(self, version: object) -> bool:
        """Whether a custom state of this form in a snapshot is one of this fold."""
        return version in (self.version, self.former_version)

    def reads_base(self, version: str) -> bool:
        """Whether a base of this form is one of this fold. There is no other copy: a class may have been renamed."""
        return self.version in (version, version.rpartition("/")[2])


FoldOf = Callable[[str | None], CustomFold | None]
"""The custom fold of an agent type; None where it has none."""


@frozen(eq=False, repr=False)
class Rebuilt:
    """State and custom state at a seq, and the seq of the snapshot they were rebuilt from (0: none)."""

    state: AgentState
    custom: Any
    snapshot_seq: int


def misfit(agent: str, seq: int, error: Exception) -> CorruptEvent:
    """The error for an event that does not fit the state before it."""
    return CorruptEvent(
        f"event {seq} of {agent} does not fit the state before it ({type(error).__name__})", agent=agent, seq=seq
    )


class StateFold:
    """A state that is folded in place.

    `state` and `custom` change with each event; copy what is to stay. Not thread-safe.
    """

    __slots__ = ("_agent", "_fold", "_fold_of", "_remembered", "custom", "state")

    def __init__(self, agent: str, limits: Limits, fold_of: FoldOf | None, start: Rebuilt | None = None) -> None:
        """Begin with an empty state, or with `start`, which the fold then owns and changes."""
        self._agent = agent
        self._fold_of = fold_of
        self._remembered = limits.commands_remembered
        self.state: AgentState = AgentState() if start is None else start.state
        self.custom: Any = None if start is None else start.custom
        self._fold = fold_of(self.state.agent_type) if fold_of is not None and self.state.seq > 0 else None

    @property
    def custom_version(self) -> str | None:
        """The form of the custom state; None where there is none."""
        return None if self._fold is None else self._fold.version

    def reads(self, version: object) -> bool:
        """Whether a custom state of this form in a snapshot can be compared with that of this fold."""
        return self._fold is not None and self._fold.reads(version)

    def apply(self, raw: RawEvent, digest: bytes) -> None:
        """Let the next event change the state, and own its containers.

        Raises CorruptEvent for an event that does not fit, and what the custom fold raises (UnknownEventType …).
        """
        try:
            advance(self.state, raw, digest, self._remembered)
        except MISFITS as error:
            raise misfit(self._agent, self.state.seq + 1, error) from None
        if self._fold_of is not None:
            self._apply_custom(raw)

    def apply_all(self, events: Iterable[tuple[int, RawEvent, bytes]]) -> None:
        """As `apply` for each event (seq, raw fields, digest), without the cost of a call for each."""
        state, remembered = self.state, self._remembered
        for _, raw, digest in events:
            try:
                advance(state, raw, digest, remembered)
            except MISFITS as error:
                raise misfit(self._agent, state.seq + 1, error) from None
            if self._fold_of is not None:
                self._apply_custom(raw)

    def apply_leniently(self, raw: RawEvent, digest: bytes) -> None:
        """As `apply`, but drop the custom state where its code is not here or fails."""
        try:
            self.apply(raw, digest)
        except CorruptEvent:
            raise
        except Exception:  # UnknownEventType, or the user's own code; the state itself has advanced before it
            self.drop_custom()

    def drop_custom(self) -> None:
        """Fold working memory alone from now on: the code for the custom state does not take what is stored."""
        self._fold_of = self._fold = self.custom = None

    def _apply_custom(self, raw: RawEvent) -> None:
        if raw[0] == SPAWNED:
            assert self._fold_of is not None
            self._fold = self._fold_of(self.state.agent_type)
            self.custom = self._fold.initial() if self._fold else None
        elif self._fold is not None and raw[0] not in OWN_TYPES:
            self.custom = self._fold.apply(self.custom, raw)

    def copy(self) -> Rebuilt:
        """The state as it is now, sharing nothing with this one. Its command ids are left out."""
        held = self.state
        state = evolve(held, commands={})
        for name in ("memory", "metadata", "checkpoints", "children", "levels"):
            setattr(state, name, copy_tree(getattr(held, name)))
        return Rebuilt(state, copy_tree(self.custom), held.seq)
