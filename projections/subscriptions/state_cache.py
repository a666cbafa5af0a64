"""Working memory of agents before and after each event, kept while they are read, rebuilt from the log when not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from attrs import evolve

from duramen.events import Event, InvalidPath, Limits
from duramen.events.codec import Codec
from duramen.events.log import EventLog
from duramen.events.model import split_text

from ..recovery import AgentLog, rebuild
from ..state import MISSING, AgentState, WorkingMemory, lookup

__all__ = ["StateCache", "value_at"]

_MOST_AGENTS: Final = 1_000
_MOST_NODES: Final = 500_000  # values in all memories together: some hundred MB at the most


class StateCache:
    """Folds the events of many agents. Used by one thread at a time.

    It must be shown every event that changes state of the agents it is shown any of, in the order of their logs.
    """

    def __init__(self, log: EventLog, limits: Limits, *, most_agents: int = _MOST_AGENTS) -> None:
        self._log = log
        self._limits = limits
        self._codec = Codec(limits)
        self._most_agents = most_agents
        self._fold = WorkingMemory(evolve(limits, commands_remembered=0))
        self._states: OrderedDict[str, AgentState] = OrderedDict()
        self._nodes = 0

    def __len__(self) -> int:
        return len(self._states)

    def show(self, event: Event) -> tuple[AgentState, AgentState]:
        """The agent's state before and after an event; read-only, both. Raises what `rebuild` raises."""
        before = self._states.pop(event.agent, None)
        if before is None:
            before = self._rebuilt(event.agent, event.seq - 1)
        else:
            self._nodes -= before.nodes
        # What is not shown here, activity, changes nothing but the position.
        after = self._fold.apply(evolve(before, seq=event.seq - 1), event)
        self._states[event.agent] = after
        self._nodes += after.nodes
        while len(self._states) > 1 and (len(self._states) > self._most_agents or self._nodes > _MOST_NODES):
            self._nodes -= self._states.popitem(last=False)[1].nodes
        return before, after

    def _rebuilt(self, agent: str, seq: int) -> AgentState:
        if seq == 0:
            return AgentState()
        state = rebuild(AgentLog(self._log, agent, self._limits, codec=self._codec), to_seq=seq).state
        return evolve(state, commands={}, checkpoints={})


def value_at(state: AgentState, path: str) -> Any:
    """The value at a property path, `MISSING` if there is none."""
    try:
        return lookup(state.memory, split_text(path, "property path"))
    except InvalidPath:  # nothing is there, or the path is of a key that no property path can have
        return MISSING
