"""Working memory as a projection: the fold that the live actor, recovery and every onlooker share."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from duramen.events import Event, Limits, PlainData, property_segments
from duramen.events.codec import to_microseconds
from duramen.events.model import MEMORY_MERGED, MEMORY_RESTORED, OWN_TYPES

from ..projection import Projection
from .agent_state import AgentState, advance
from .tree import copy_for_merge, copy_path, copy_tree

__all__ = ["WorkingMemory"]


class WorkingMemory(Projection[AgentState]):
    """The state of one agent: `.memory` is its working memory, the rest its lifecycle.

    Give it one agent's events. `apply` leaves the old state as it was; it shares with the new one whatever the
    event did not touch, so treat both as read-only.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._remembered = (limits or Limits()).commands_remembered

    def initial(self) -> AgentState:
        return AgentState()

    def apply(self, state: AgentState, event: Event) -> AgentState:
        after = evolve(
            state,
            memory=_loosen(state, event),
            checkpoints=dict(state.checkpoints),
            commands={command: list(entry) for command, entry in state.commands.items()}
            if event.command_id
            else state.commands,
        )
        data = copy_tree(event.data) if event.type in OWN_TYPES else {}
        # The fingerprint of a command is only compared by who takes commands, which is never a projection.
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


def _loosen(state: AgentState, event: Event) -> dict[str, PlainData]:
    """The memory, with copies of the containers that the event changes."""
    memory = state.memory
    if event.type == MEMORY_RESTORED:
        copied = copy_tree(memory)
        assert isinstance(copied, dict)
        return copied
    path = event.data.get("path") if event.type in OWN_TYPES else None
    if path is None:
        return memory
    segments = property_segments(path)
    if event.type == MEMORY_MERGED:
        return copy_for_merge(memory, segments, event.data["patch"])
    return copy_path(memory, segments)
