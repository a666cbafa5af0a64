"""Finds the causes of events in the logs of agents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from duramen.events import AgentNotFound, Event, Trimmed
from duramen.events.model import (
    ACTIVITY_RECORDED,
    is_log_id,
    log_id,
    parse_event_id,
)

from ..recovery import AgentLog, find_agent

_PAGE: Final = 64
_PAGES: Final = 256
_MOST: Final = 1_000
_TOOL: Final = "tool_output"
_CLOCKS: Final = timedelta(minutes=1)
"""By how much an event of one host may seem to be later than what another host has made of it."""


class Causes:
    """Finds events and their causes. Caches a bounded number of pages for one question. Not thread-safe."""

    def __init__(self, agent_log: AgentLog) -> None:
        self._agent_log = agent_log
        self._pages: dict[tuple[str, int], dict[int, Event]] = {}
        self._agents: dict[str, str | None] = {log_id(agent_log.agent): agent_log.agent}

    def event(self, agent: str, seq: int) -> Event | None:
        """One event; None if there is none, or it was trimmed. Raises CorruptEvent, UnknownEventType."""
        number = (seq - 1) // _PAGE
        page = self._pages.get((agent, number))
        if page is None:
            page = self._read(agent, number * _PAGE + 1)
            if len(self._pages) >= _PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[agent, number] = page
        return page.get(seq)

    def _read(self, agent: str, first: int) -> dict[int, Event]:
        agent_log = self._agent_log.of(agent)
        try:
            events = agent_log.events(max(first, agent_log.head().base + 1), first + _PAGE - 1)
            return {event.seq: event for event in events}
        except (Trimmed, AgentNotFound):
            return {}

    def causes(self, event: Event) -> tuple[Event, ...]:
        """The cause of an event, the cause of that one, and so on to the first that can be read, nearest first."""
        found: list[Event] = []
        seen = {(event.agent, event.seq)}
        place = self._place(event)
        while place is not None and place not in seen and len(found) < _MOST:
            seen.add(place)
            cause = self.event(*place)
            if cause is None or cause.time > event.time + _CLOCKS:  # the agent was made anew: it is another log
                break
            found.append(cause)
            place = self._place(cause)
        return tuple(found)

    def _place(self, event: Event) -> tuple[str, int] | None:
        """Agent and seq of the cause of an event; None if it names none, or an agent that is not there."""
        named = parse_event_id(event.causation_id)
        if named is None:
            return None
        name, seq = named
        if not is_log_id(name):
            return named
        if name not in self._agents:
            self._agents[name] = find_agent(self._agent_log.log, name)
        agent = self._agents[name]
        return None if agent is None else (agent, seq)

    def tool(self, event: Event, causes: tuple[Event, ...]) -> Event | None:
        """The nearest record of a tool's output: of the same handling, else of the handling of a cause."""
        for link in (event, *causes):
            if _is_tool(link):
                return link
            near = [found for found in self._handling(link) if _is_tool(found)]
            if near:
                return min(near, key=lambda found: (found.seq > link.seq, abs(found.seq - link.seq)))
        return None

    def _handling(self, event: Event) -> list[Event]:
        """The other events of one handling: its neighbours with the same command or the same cause."""
        key = _key(event)
        if key is None:
            return [event]
        found: list[Event] = []
        for direction in (-1, 1):
            seq = event.seq + direction
            most = self._agent_log.limits.batch_events
            while (near := self.event(event.agent, seq) if seq > 0 else None) is not None and most > 0:
                if _key(near) != key:
                    break
                found.append(near)
                seq += direction
                most -= 1
        return found


def _key(event: Event) -> tuple[str | None, ...] | None:
    key = (event.session_id, event.command_id, event.causation_id, event.correlation_id)
    return None if key[1:] == (None, None, None) else key


def _is_tool(event: Event) -> bool:
    data: dict[str, Any] = event.data
    return event.type == ACTIVITY_RECORDED and data.get("kind") == _TOOL
