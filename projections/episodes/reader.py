"""The episodes of all agents, read from where appends put them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from duramen.events import CorruptEvent, DataLoss, Diverged, Limits
from duramen.events.codec import Codec
from duramen.events.log import EventLog
from duramen.events.logging import get_logger

from .index import EpisodeIndex
from .migration import fill_lists
from .record import erased_record, unpack_record


class EpisodeReader:
    """Brings an index up to date with the lists of episodes, one a partition. Thread-safe.

    An append that records an episode adds it to the list in the same step, so nothing else of the log is read. Lists
    of a namespace that older code made are filled from the log first, once.
    """

    def __init__(self, log: EventLog, limits: Limits, index: EpisodeIndex) -> None:
        self._log = log
        self._limits = limits
        self._codec = Codec(limits)
        self._index = index
        self._lock = threading.Lock()
        self._is_filled = False
        self._counts = [0] * log.partitions
        self._last = [b""] * log.partitions
        self._erasures: list[int] = []
        self._erased = erased_record(self._codec, log.chain)

    def catch_up(self) -> None:
        """Return when the index has every episode that was acknowledged before the call.

        A damaged item is left out; `verify` finds it. Raises DataLoss and Diverged once, when the lists are not what
        they were; the next call starts from their beginning. Raises what reading raises.
        """
        with self._lock:
            self._fill()
            while self._read_more():
                pass

    @property
    def erasures(self) -> Sequence[int]:
        """How often agents had been erased in each partition when the lists were read last."""
        return self._erasures

    def fill(self) -> None:
        """Fill the lists of a namespace that older code made, if nobody has yet: before events are trimmed."""
        with self._lock:
            self._fill()

    def _fill(self) -> None:
        if not self._is_filled:
            fill_lists(self._log, self._limits)
            self._is_filled = True

    def _read_more(self) -> bool:
        """Read the next items of each partition, with the last known one to compare; whether there were any."""
        counts = self._counts
        pages, erasures = self._log.archive.episodes([max(0, count - 1) for count in counts])
        if erasures != self._erasures:
            self._erasures = erasures
            if any(counts):  # some of them may be of agents that are erased
                self._start_again()
                return True
        for partition, page in enumerate(pages):
            if counts[partition]:
                if page and page[0] == self._erased != self._last[partition]:
                    self._start_again()
                    return True
                self._check(partition, page)
                page.pop(0)
        for partition, page in enumerate(pages):
            for stored in page:
                self._add(stored)
            if page:
                counts[partition] += len(page)
                self._last[partition] = page[-1]
        return any(pages)

    def _check(self, partition: int, page: list[bytes]) -> None:
        if page and page[0] == self._last[partition]:
            return
        kind, count = (Diverged if page else DataLoss), self._counts[partition]
        self._start_again()
        raise kind(
            f"the log is not what it was: of {count} episodes of partition {partition} the last is "
            f"{'another' if page else 'gone'}; ask again for those there are",
            expected=count,
        )

    def _start_again(self) -> None:
        self._counts, self._last = [0] * self._log.partitions, [b""] * self._log.partitions
        self._index.clear()

    def _add(self, stored: bytes) -> None:
        try:
            record = unpack_record(stored, self._codec, self._log.chain)
        except CorruptEvent:
            get_logger("episodes").warning("episode_unreadable")
            return
        if record is not None:
            self._index.add(record.episode)
