"""A build that is far behind has a second process read for it: which partitions, from when on, until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from duramen.events.feed import FeedReader
from duramen.events.helper_process import usable_cores
from duramen.events.log import EventLog
from duramen.events.logging import get_logger
from duramen.events.prefetch import AT_A_TIME, Done, HelperGone, PrefetchClient

from ..notifications import Scope

__all__ = ["LEAST_LAG", "Prefetching"]

LEAST_LAG: Final = 300_000
"""Appends, from which on a process is worth starting."""

_PARTS: Final = 100
"""A partition that is behind by less than one of so many parts of these is not worth handing over."""
_PATIENCE: Final = 5.0
"""Seconds that nothing comes while it is waited for, after which the process is given up. A window takes 0.1 s."""
_PAUSE: Final = 5.0
"""Seconds until it is asked again for a process that could not be had: another consumer may have one."""

Readers = Mapping[int, FeedReader]


class Prefetching:
    """For one build, and used by its thread, but for `kill` and `after_fork`.

    None of this is needed: what the process does not read, or leaves, the build reads by itself, and while nothing has
    come of the process the build reads other partitions. Where a process was of no use there is no other.
    """

    def __init__(self, log: EventLog, scope: Scope) -> None:
        self._log = log
        self._scope = scope
        self._ends: Sequence[int] = ()
        self._near: PrefetchClient | None = None
        self._useless = False
        """Whether no other process is to be started."""
        self._again_at = 0.0
        self._told: set[int] = set()
        """Partitions that the process reads."""
        self._left: set[int] = set()
        """Those that it has read, or found something odd in."""
        self._current: int | None = None
        """The one whose window is being handed out."""
        self._asks_for: int | None = None
        """The one that the build is at, and that the process could read: there is nothing else for it."""
        self._waited = 0.0

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._near is not None

    def holds(self, partition: int) -> bool:
        """Whether this partition is read by the process, so that nobody else should."""
        return partition in self._told or partition == self._current

    def wants(self, partition: int) -> bool:
        """Whether the process has nothing to do, but could read this partition, if the build lets go of it."""
        return partition == self._asks_for

    def look(self, ends: Sequence[int], readers: Readers) -> None:
        """Start a process where that is worth it. `ends` is where the feeds end, as far as is known."""
        self._ends = ends
        here = not ends or self._near is not None or self._useless
        if here or monotonic() < self._again_at or usable_cores() < 2:
            return
        behind = sum(self._behind(number, reader) for number, reader in readers.items())
        if behind < LEAST_LAG:
            return
        scope = self._scope
        self._near = PrefetchClient.start(self._log, None if scope.all_agents else scope.pattern.text, scope.level)
        if self._near is None:
            self._again_at = monotonic() + _PAUSE
            return
        get_logger("projection").info("prefetch_started", process=self._near.pid, behind=behind)

    def next(self, readers: Readers, apart: int | None, until: float) -> int | None:
        """A partition whose reader has something of the process to hand out; None if it gets nothing until then.

        Partition `apart` is not for the process: the build is at it.
        """
        if self._current is not None and not readers[self._current].between:
            return self._current
        self._current = None
        while self._near is not None:
            try:
                self._tell(self._near, readers, apart)
                if not self._told and self._asks_for is None:
                    self.close()
                elif not self._take(self._near, readers, until):
                    return None
            except HelperGone as gone:
                get_logger("projection").warning("prefetch_given_up", why=str(gone))
                self._useless = True
                self.close()
            if self._current is not None:
                return self._current
        return None

    def close(self) -> None:
        """End the process, if there is one. Another one may be started."""
        near, self._near = self._near, None
        self._told, self._left, self._waited = set(), set(), 0.0
        self._current = self._asks_for = None
        if near is not None:
            near.close()

    def kill(self) -> None:
        """End the process at once. From any thread."""
        near = self._near
        if near is not None:
            near.kill()

    def after_fork(self) -> None:
        """In a forked child: the process is the parent's."""
        near, self._near = self._near, None
        if near is not None:
            near.after_fork()

    def _behind(self, number: int, reader: FeedReader) -> int:
        return max(0, self._ends[number] - reader.mark.position)

    def _tell(self, near: PrefetchClient, readers: Readers, apart: int | None) -> None:
        """Tell the process what else to read, if it has time for that. Raises HelperGone."""
        self._asks_for = None
        if len(self._told) >= AT_A_TIME:
            return
        least = max(1, LEAST_LAG // _PARTS)
        far = [number for number, reader in readers.items() if self._behind(number, reader) >= least]
        free = [number for number in far if number not in self._told and number not in self._left]
        ready = [number for number in free if number != apart and readers[number].between]
        for number in ready[: AT_A_TIME - len(self._told)]:
            near.read(number, readers[number].mark, self._ends[number])
            self._told.add(number)
        if not self._told and free:
            self._asks_for = free[0] if apart is None else apart

    def _take(self, near: PrefetchClient, readers: Readers, until: float) -> bool:
        """Take what comes next; whether something did. Raises HelperGone."""
        began = monotonic()
        news = near.next(until - began)
        if news is None:
            self._waited += monotonic() - began
            if self._waited > _PATIENCE:
                raise HelperGone("it is silent")
            return False
        self._waited = 0.0
        if isinstance(news, Done):
            self._told.discard(news.partition)
            self._left.add(news.partition)
            self._useless = self._useless or news.odd
            return True
        reader, fetched = readers[news.partition], news.fetched
        if fetched.before != reader.mark or not reader.between:
            raise HelperGone("it is at another place")
        reader.give(fetched.window, fetched.feed_end)
        self._current = news.partition
        return True
