"""The episodes of all agents, as the feeds bring them."""

from __future__ import annotations

import threading

from duramen.events import DataLoss, Diverged, EventRegistry, Granularity, Limits, Trimmed
from duramen.events.codec import Codec
from duramen.events.feed import FeedReader
from duramen.events.log import EventLog
from duramen.events.model import START, Mark

from .index import EpisodeIndex
from .store import read_episodes, stored_episodes

__all__ = ["EpisodeFeed"]


class EpisodeFeed:
    """Keeps an index up with the feeds, when it is told to. Thread-safe.

    Of events that were trimmed, the episodes come from where they were kept before.
    """

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits, index: EpisodeIndex) -> None:
        self._log = log
        self._registry = registry
        self._codec = Codec(limits)
        self._index = index
        self._lock = threading.Lock()
        self._readers: list[FeedReader] = []
        self._marks: dict[int, Mark] = {}

    def catch_up(self) -> None:
        """Return when the index has every episode that was acknowledged before the call.

        Raises DataLoss and Diverged once, when the log is not what it was; the next call begins anew. Raises
        CorruptEvent, Trimmed, and what reading the log raises, as long as that is so.
        """
        with self._lock:
            if not self._readers:
                self._begin()
            self._marks = {}
            try:
                for partition, end in enumerate(self._log.positions()):
                    self._follow(partition, end)
            except (DataLoss, Diverged):
                self._readers.clear()
                raise

    @property
    def begun(self) -> bool:
        """Whether anybody has asked for an episode."""
        return bool(self._readers)

    def _begin(self) -> None:
        self._index.clear()
        marks = self._load()
        self._readers = [self._reader(partition, marks) for partition in range(self._log.partitions)]

    def _follow(self, partition: int, end: int) -> None:
        if self._readers[partition].mark.position > end:
            self._readers[partition].read(1)  # raises: the log is shorter than it was
        while self._readers[partition].mark.position < end:
            try:
                episodes = read_episodes(self._readers[partition], self._registry)
            except Trimmed:
                if not self._passed_over(partition):
                    raise
                continue
            if episodes is None:
                return
            for episode in episodes:
                self._index.add(episode)

    def _passed_over(self, partition: int) -> bool:
        """Go on behind what was trimmed, if its episodes are kept.

        Everything that is kept is read then, so once a call will do for all partitions, unless trimming goes on.
        """
        before = self._readers[partition].mark.position
        if self._marks.get(partition, START).position <= before:
            self._marks = self._load()
        self._readers[partition] = self._reader(partition, self._marks)
        return self._readers[partition].mark.position > before

    def _reader(self, partition: int, marks: dict[int, Mark]) -> FeedReader:
        mark = marks.get(partition, START)
        return FeedReader(self._log, self._codec, partition, mark, level=Granularity.LIFECYCLE)

    def _load(self) -> dict[int, Mark]:
        """Take in the episodes that are kept; from where on the feeds have the others."""
        episodes, marks = stored_episodes(self._log, self._codec)
        for episode in episodes:
            self._index.add(episode)
        return marks
