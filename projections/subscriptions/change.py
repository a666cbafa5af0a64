"""What a subscription delivers: an event, and which properties of its agent it changed, with values if wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from duramen.events import Event, EventRegistry, Granularity, InvalidPath, Limits
from duramen.events.codec import Codec, build_valid_event
from duramen.events.feed import FeedEvent
from duramen.events.log import EventLog
from duramen.events.model import segments_of_text

from ..recovery import AgentLog, rebuild
from ..state import MISSING, AgentState, WorkingMemory, lookup, read_only

_CHANGES_STATE: Final = int(Granularity.STATE)
_MOST_AGENTS: Final = 1_000
_MOST_NODES: Final = 500_000  # values in all memories together: some hundred MB at the most


@frozen
class Change:
    """One event, as it concerns a subscription. The event is the subscription's own.

    `paths` are the property paths, as text, that the event names and that match the pattern; a path stands for
    everything below it. It is empty for an event that changes no property: one of lifecycle, of activity, of your
    own. "" is the whole working memory.

    With `erased` the agent was erased, with all that it had: the event is of type `erased`, of no log, and has no data;
    `seq` is 0. What comes later of this path is of another agent, from seq 1 on.

    `values` has the value before and after the event of each of `paths`, where the subscription was made with
    `values=True`: a read-only view of a dict or list (`plain()` copies it), and `MISSING` where there is none.
    """

    agent: str
    seq: int
    event: Event
    paths: tuple[str, ...] = ()
    values: Mapping[str, tuple[Any, Any]] | None = None
    erased: bool = False


@frozen(eq=False, repr=False)
class Source:
    """A log, and how its events are decoded."""

    log: EventLog
    registry: EventRegistry
    limits: Limits


class StateCache:
    """Working memory of agents, cached between events, rebuilt from the log otherwise. Used by one thread at a time.

    `apply` must be called with every event that changes the state of an agent, in the order of the agent's log.
    """

    def __init__(self, log: EventLog, limits: Limits, *, most_agents: int = _MOST_AGENTS) -> None:
        self._log = log
        self._limits = limits
        self._codec = Codec(limits)
        self._most_agents = most_agents
        self._fold = WorkingMemory(evolve(limits, commands_remembered=1))  # none are needed; 1 is the least
        self._states: OrderedDict[str, AgentState] = OrderedDict()
        self._nodes = 0

    def __len__(self) -> int:
        return len(self._states)

    def apply(self, event: Event) -> tuple[AgentState, AgentState]:
        """The agent's state before and after an event; read-only, both. Raises what `rebuild` raises."""
        before = self._states.pop(event.agent, None)
        if before is not None:
            self._nodes -= before.nodes
        if before is None or event.seq == 1:  # spawned anew where one of the same path was erased
            before = self._rebuild(event.agent, event.seq - 1)
        # Events of activity are not applied here: they change nothing except the position.
        state = before.copy()
        state.seq = event.seq - 1
        after = self._fold.apply(state, event)
        self._states[event.agent] = after
        self._nodes += after.nodes
        while len(self._states) > 1 and (len(self._states) > self._most_agents or self._nodes > _MOST_NODES):
            self._nodes -= self._states.popitem(last=False)[1].nodes
        return before, after

    def _rebuild(self, agent: str, seq: int) -> AgentState:
        if seq == 0:
            return AgentState()
        state = rebuild(AgentLog(self._log, agent, self._limits, codec=self._codec), to_seq=seq).state
        return evolve(state, commands={}, checkpoints={})


class ChangeBuilder:
    """Makes changes of events. Used by one thread at a time; with values, show it every event up to `level`."""

    def __init__(self, source: Source, *, values: bool) -> None:
        self._registry = source.registry
        self._states = StateCache(source.log, source.limits) if values else None
        self.level = _CHANGES_STATE if values else 0

    def plain(self, found: FeedEvent, paths: Sequence[str]) -> Change:
        """The change without values. Raises UnknownEventType, CorruptEvent."""
        event = build_valid_event(found.agent, found.seq, found.raw, found.digest, self._registry)
        return Change(found.agent, found.seq, event, tuple(paths))

    def with_values(self, found: FeedEvent, paths: Sequence[str] | None) -> Change | None:
        """The change with the values at `paths`, or None if `paths` is.

        Raises UnknownEventType, CorruptEvent, and what `rebuild` raises.
        """
        assert self._states is not None
        if paths is None and found.raw[2] > _CHANGES_STATE:
            return None
        event = build_valid_event(found.agent, found.seq, found.raw, found.digest, self._registry)
        before, after = self._states.apply(event)
        if paths is None:
            return None
        values = {path: (read_only(_value_at(before, path)), read_only(_value_at(after, path))) for path in paths}
        return Change(found.agent, found.seq, event, tuple(paths), values)


def _value_at(state: AgentState, path: str) -> Any:
    """The value at a property path, `MISSING` if there is none."""
    try:
        return lookup(state.memory, segments_of_text(path))
    except InvalidPath:
        return MISSING
