"""One pass over an agent's log with its state at hand: the working part of all that looks at more than one seq."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from duramen.events import CorruptEvent, Limits
from duramen.events.codec import RawEvent
from duramen.events.model import OWN_TYPES, SPAWNED

from ..state import AgentState, advance, copy_tree
from .rebuild import CustomFold, FoldOf, Rebuilt

__all__ = ["StateFold"]


class StateFold:
    """A state that events are put to, one after another, in place.

    `state` and `custom` change with each event; copy what is to stay. Not for two threads.
    """

    __slots__ = ("_agent", "_fold", "_fold_of", "_remembered", "custom", "state")

    def __init__(self, agent: str, limits: Limits, fold_of: FoldOf | None, start: Rebuilt | None = None) -> None:
        """From the beginning, or from `start`, which becomes its own."""
        self._agent = agent
        self._fold_of = fold_of
        self._remembered = limits.commands_remembered
        self.state: AgentState = AgentState() if start is None else start.state
        self.custom: Any = None if start is None else start.custom
        begun = fold_of is not None and self.state.seq > 0
        self._fold: CustomFold | None = fold_of(self.state.agent_type) if fold_of is not None and begun else None

    @property
    def custom_version(self) -> str | None:
        """The form of the custom state; None where there is none."""
        return None if self._fold is None else self._fold.version

    def take(self, raw: RawEvent, digest: bytes) -> None:
        """Let the next event change the state. Its containers become part of it.

        Raises CorruptEvent where it does not fit, UnknownEventType.
        """
        state = self.state
        try:
            advance(state, raw, digest, self._remembered)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise CorruptEvent(
                f"event {state.seq + 1} of {self._agent} does not fit the state before it ({type(error).__name__})",
                agent=self._agent,
                seq=state.seq + 1,
            ) from None
        if self._fold_of is None:
            return
        if raw[0] == SPAWNED:
            self._fold = self._fold_of(state.agent_type)
            self.custom = self._fold.initial() if self._fold else None
        elif self._fold is not None and raw[0] not in OWN_TYPES:
            self.custom = self._fold.apply(self.custom, raw)

    def take_leniently(self, raw: RawEvent, digest: bytes) -> None:
        """As `take`, but where the code for the custom state is not here or fails, go on without that state."""
        try:
            self.take(raw, digest)
        except CorruptEvent:
            raise
        except Exception:  # UnknownEventType, or the user's own code; the state itself has advanced before it
            self.give_up_custom()

    def give_up_custom(self) -> None:
        """Go on without the custom state: its code does not take what is stored."""
        self._fold_of = self._fold = self.custom = None

    def copy(self) -> Rebuilt:
        """The state as it is now, sharing nothing with this one. Its command ids are left out."""
        held = self.state
        state = evolve(held, commands={})
        for name in ("memory", "metadata", "checkpoints", "children", "levels"):
            setattr(state, name, copy_tree(getattr(held, name)))
        return Rebuilt(state, copy_tree(self.custom), held.seq)
