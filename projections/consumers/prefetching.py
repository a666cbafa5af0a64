"""Letting a second process read for a view that is far behind: which partitions, from when, until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from duramen.events.feed import FeedReader
from duramen.events.helper_process import usable_cores
from duramen.events.log import EventLog
from duramen.events.logging import get_logger
from duramen.events.prefetch import AT_A_TIME, Done, HelperGone, PrefetchClient

from ..notifications import EventFilter

LEAST_LAG: Final = 300_000
"""Appends behind, from which on a process is worth starting."""

_PARTS: Final = 100
"""A partition behind by less than this fraction of them is not worth handing over."""
_PATIENCE: Final = 5.0
"""Seconds of silence while waiting, after which the process is given up. A window takes 0.1 s."""
_PAUSE: Final = 5.0
"""Seconds until another attempt to start a process: another consumer may have the only one."""

Readers = Mapping[int, FeedReader]


class Prefetching:
    """Used by the thread of one view; only `kill` and `after_fork` may be called from others.

    It is an optimisation: the view reads by itself what the process does not read, and meanwhile other partitions.
    After a useless process no other is started.
    """

    def __init__(self, log: EventLog, event_filter: EventFilter) -> None:
        self._log = log
        self._filter = event_filter
        self._ends: Sequence[int] = ()
        self._client: PrefetchClient | None = None
        self._useless = False
        """Whether no other process is to be started."""
        self._again_at = 0.0
        self._assigned: set[int] = set()
        """Partitions that the process reads."""
        self._finished: set[int] = set()
        """Partitions that it has read, or found something odd in."""
        self._current: int | None = None
        """The partition whose window is being handed out."""
        self._wanted: int | None = None
        """The partition that the view is reading, if the process has nothing else to read."""
        self._waited = 0.0

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._client is not None

    def holds(self, partition: int) -> bool:
        """Whether the process reads this partition, so that the view must not."""
        return partition in self._assigned or partition == self._current

    def wants(self, partition: int) -> bool:
        """Whether the process has nothing to do, and could read this partition if the view releases it."""
        return partition == self._wanted

    def start_if_behind(self, ends: Sequence[int], readers: Readers) -> None:
        """Start a process if the readers are far behind `ends`: where the feeds end, as far as is known."""
        self._ends = ends
        needless = not ends or self._client is not None or self._useless
        if needless or monotonic() < self._again_at or usable_cores() < 2:
            return
        behind = sum(self._behind(number, reader) for number, reader in readers.items())
        if behind < LEAST_LAG:
            return
        pattern = None if self._filter.has_all_agents else self._filter.pattern.text
        self._client = PrefetchClient.start(self._log, pattern, self._filter.level)
        if self._client is None:
            self._again_at = monotonic() + _PAUSE
            return
        get_logger("projection").info("prefetch_started", process=self._client.pid, behind=behind)

    def next(self, readers: Readers, apart: int | None, until: float) -> int | None:
        """A partition whose reader has a window of the process to hand out; None if none comes until then.

        Partition `apart` is not given to the process: the view is reading it.
        """
        if self._current is not None and not readers[self._current].is_idle:
            return self._current
        self._current = None
        while self._client is not None:
            try:
                self._assign(self._client, readers, apart)
                if not self._assigned and self._wanted is None:
                    self.close()
                elif not self._receive(self._client, readers, until):
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
        client, self._client = self._client, None
        self._assigned, self._finished, self._waited = set(), set(), 0.0
        self._current = self._wanted = None
        if client is not None:
            client.close()

    def kill(self) -> None:
        """End the process at once. From any thread."""
        client = self._client
        if client is not None:
            client.kill()

    def after_fork(self) -> None:
        """In a forked child: the process is the parent's."""
        client, self._client = self._client, None
        if client is not None:
            client.after_fork()

    def _behind(self, number: int, reader: FeedReader) -> int:
        return max(0, self._ends[number] - reader.mark.position)

    def _assign(self, client: PrefetchClient, readers: Readers, apart: int | None) -> None:
        """Give the process more partitions to read, if it has time for them. Raises HelperGone."""
        self._wanted = None
        if len(self._assigned) >= AT_A_TIME:
            return
        least = max(1, LEAST_LAG // _PARTS)
        far = [number for number, reader in readers.items() if self._behind(number, reader) >= least]
        free = [number for number in far if number not in self._assigned and number not in self._finished]
        ready = [number for number in free if number != apart and readers[number].is_idle]
        for number in ready[: AT_A_TIME - len(self._assigned)]:
            client.read(number, readers[number].mark, self._ends[number])
            self._assigned.add(number)
        if not self._assigned and free:
            self._wanted = free[0] if apart is None else apart

    def _receive(self, client: PrefetchClient, readers: Readers, until: float) -> bool:
        """Give the next window of the process to its reader; whether one came in time. Raises HelperGone."""
        began = monotonic()
        message = client.next(until - began)
        if message is None:
            self._waited += monotonic() - began
            if self._waited > _PATIENCE:
                raise HelperGone("it is silent")
            return False
        self._waited = 0.0
        if isinstance(message, Done):
            self._assigned.discard(message.partition)
            self._finished.add(message.partition)
            self._useless = self._useless or message.failed
            return True
        reader, fetched = readers[message.partition], message.fetched
        if fetched.before != reader.mark or not reader.is_idle:
            raise HelperGone("it is at another place")
        reader.hand_over(fetched.window, fetched.feed_end)
        self._current = message.partition
        return True
