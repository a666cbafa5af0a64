"""The calls of a system that read a log without running an agent."""

from __future__ import annotations

from collections.abc import Iterator

from duramen.events import AgentPath, CorruptEvent, Event, EventRegistry, InvalidMessage, Limits, agent_path
from duramen.events.codec import Codec
from duramen.events.log import Entry, EventLog, read_events
from duramen.projections import AgentView
from duramen.projections.recovery import AgentLog, rebuild

from ..dispatch import EventLoop
from .episode_store import EpisodeStore


class Reading:
    """The part of a system that only reads. Thread-safe, since every call has its own codec."""

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits, loop: EventLoop) -> None:
        self._log = log
        self._registry = registry
        self._limits = limits
        self._episodes = EpisodeStore(log, registry, limits, loop)

    @property
    def log(self) -> EventLog:
        """The log this system runs on."""
        return self._log

    @property
    def registry(self) -> EventRegistry:
        """The event types that are known here."""
        return self._registry

    @property
    def limits(self) -> Limits:
        """The bounds that this system was opened with."""
        return self._limits

    @property
    def episodes(self) -> EpisodeStore:
        """Long-term memory: the episodes of finished sessions."""
        return self._episodes

    def agents(self) -> Iterator[Entry]:
        """Iterate over all agents of the namespace, in no order, read in pages. Does not take agents over.

        Agents that change meanwhile come as they were before or after. Raises Unavailable while iterating.
        """
        return self._log.directory()

    def events(self, path: str | AgentPath, *, from_seq: int = 1, to_seq: int | None = None) -> Iterator[Event]:
        """Iterate over an agent's events, oldest first, read in pages.

        Raises AgentNotFound, Trimmed, CorruptEvent, UnknownEventType while iterating.
        """
        name = agent_path(path).text
        if type(from_seq) is not int or from_seq < 1 or (to_seq is not None and type(to_seq) is not int):
            raise InvalidMessage("from_seq is a whole number from 1 on, to_seq one or None", agent=name)
        return read_events(self._log, name, Codec(self._limits), self._registry, from_seq=from_seq, to_seq=to_seq)

    def peek(self, path: str | AgentPath) -> AgentView:
        """Return an agent's state of now from its log, read-only, without running code of the agent's class.

        Does not take the agent over from another process. Raises AgentNotFound, CorruptEvent.
        """
        name = agent_path(path).text
        state = rebuild(AgentLog(self._log, name, self._limits)).state
        if state.children:  # a parent's log names a child before it is spawned, which may then never come
            there = self._existing(list(state.children))
            state.children = {child: outlives for child, outlives in state.children.items() if child in there}
        return AgentView(name, state)

    def _existing(self, agents: list[str]) -> set[str]:
        """Those of these agents of one tree that have a log, be it a damaged one."""
        try:
            heads = self._log.archive.heads(agents)
        except CorruptEvent:
            if len(agents) == 1:
                return set(agents)
            return {agent for each in agents for agent in self._existing([each])}
        return {agent for agent, head in zip(agents, heads, strict=True) if head is not None}
