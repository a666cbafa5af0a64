"""Working memory as a projection: a pure form of the fold that the live actor and recovery use."""

from __future__ import annotations

from typing import Any

from duramen.events import Event, Limits
from duramen.events.codec import to_microseconds

from ..projection import Projection
from .agent_state import AgentState
from .event_types import OWN_EVENT_TYPES, advance
from .tree import copy_tree


class WorkingMemory(Projection[AgentState]):
    """Folds the events of one agent to its state: `.memory` is its working memory, other fields its lifecycle.

    `apply` leaves the old state as it was; the new one shares with it whatever the event did not change, so treat both
    as read-only.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._remembered = (limits or Limits()).commands_remembered

    def initial(self) -> AgentState:
        return AgentState()

    def apply(self, state: AgentState, event: Event) -> AgentState:
        own = OWN_EVENT_TYPES.get(event.type)
        after = state.copy()
        after.memory = state.memory if own is None else own.copy_changed(state.memory, event.data)
        after.checkpoints = dict(state.checkpoints)
        if event.command_id:
            after.commands = {command: list(entry) for command, entry in state.commands.items()}
        data = {} if own is None else copy_tree(event.data)
        # Only an agent compares the fingerprints of commands, so a projection needs none.
        command = None if event.command_id is None else [event.command_id, b""]
        raw = [
            event.type,
            event.version,
            0,
            to_microseconds(event.time),
            data,
            event.session_id,
            command,
            None,
            None,
            None,
        ]
        advance(after, raw, event.digest, self._remembered)
        return after

    def dump(self, state: AgentState) -> Any:
        return {**state.dump(), "granularity": int(state.granularity)}

    def load(self, data: Any) -> AgentState:
        return AgentState.load(data)
