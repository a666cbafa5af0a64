"""Long-term memory as callers see it: the episodes of all agents, kept up with the feeds."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from duramen.events import EventRegistry, Granularity, Limits, Trimmed
from duramen.events.codec import Codec
from duramen.events.log import EventLog
from duramen.events.stored import read_events
from duramen.events.vocabulary import EPISODE_RECORDED
from duramen.projections.episodes import Episode, Episodes

__all__ = ["EpisodeStore"]

_PAGE: Final = 1_000
_LIFECYCLE: Final = 1 << Granularity.LIFECYCLE


class EpisodeStore:
    """Episodes of the namespace. Each call first reads what the feeds have since the last one. Thread-safe.

    The view lives in this process's memory and is built from the feeds at the first call: only appends with
    lifecycle events are looked at.
    """

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits) -> None:
        self._log = log
        self._registry = registry
        self._codec = Codec(limits)
        self._lock = threading.Lock()
        self._view = Episodes()
        self._state: Mapping[str, Episode] = self._view.initial()
        self._positions = [0] * log.partitions

    def list(self, *, project: str | None = None, agent: str | None = None, limit: int | None = None) -> list[Episode]:
        """Episodes, newest first; of one project (first segment of the path) or one agent (whole path)."""
        found = [
            episode
            for episode in self._current().values()
            if (project is None or episode.project_id == project)
            and (agent is None or f"{episode.project_id}/{episode.agent_instance_id}" == agent)
        ]
        found.sort(key=lambda episode: (episode.created_at, episode.id), reverse=True)
        return found[:limit]

    def get(self, episode_id: str) -> Episode | None:
        """One episode by id; None if there is none."""
        return self._current().get(episode_id)

    def _current(self) -> Mapping[str, Episode]:
        with self._lock:
            for partition in range(self._log.partitions):
                self._catch_up(partition)
            return self._state

    def _catch_up(self, partition: int) -> None:
        while True:
            entries = self._log.feed(partition, self._positions[partition], _PAGE)
            for entry in entries:
                if entry.levels & _LIFECYCLE:
                    self._read(entry.agent, entry.first_seq, entry.first_seq + entry.count - 1)
                self._positions[partition] += 1
            if len(entries) < _PAGE:
                return

    def _read(self, agent: str, first: int, last: int) -> None:
        try:
            for event in read_events(self._log, agent, self._codec, self._registry, from_seq=first, to_seq=last):
                if event.type == EPISODE_RECORDED:
                    self._state = self._view.apply(self._state, event)
        except Trimmed:
            return
