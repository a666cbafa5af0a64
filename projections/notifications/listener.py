"""Listening to the channels of a level, and looking at the feeds instead while there is too much to listen to."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic
from typing import Final, Protocol

from duramen.events import DuramenError
from duramen.events.log import EventLog
from duramen.events.logging import get_logger, raised_at

__all__ = ["Listener", "NoticeReceiver"]

_MUCH: Final = 200
"""Appends heard of within a second, from which on it costs less to look."""
_PAUSE: Final = 0.2
"""Seconds between two looks. Who reads in rounds rests about as long."""
_LITTLE: Final = 10
"""Appends between two looks, up to which it costs less to listen."""


class NoticeReceiver(Protocol):
    """Who is told."""

    @property
    def partitions(self) -> frozenset[int]:
        """Which concern it."""
        ...

    def tell(self, hints: Mapping[int, int]) -> None:
        """Partitions that may have moved, and how far; 0 for unknown. Any of them, and any number of times."""
        ...


class Listener:
    """A stream of notices, and the thread that listens to it.

    Under a stream of some hundred appends a second every process would be woken by each of them, and the server would
    send each to every process: then it leaves the channels, and asks a few times a second where the feeds end.
    """

    def __init__(self, log: EventLog, level: int) -> None:
        self._log = log
        self._stream = log.notices()
        self._level = level
        self._hearers: tuple[NoticeReceiver, ...] = ()
        self._stopped = False
        self._followed: frozenset[int] = frozenset()
        self._heard, self._since = 0, 0.0
        self._looks = False
        self._ends: dict[int, int] = {}
        """Where feeds end, as far as is known."""
        self._thread = threading.Thread(target=self._main, name=f"duramen-projections-ear-{level}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, hearer: NoticeReceiver) -> None:
        """Tell one more. It is for one thread at a time to add and remove."""
        self._hearers = (*self._hearers, hearer)
        self._stream.wake()

    def remove(self, hearer: NoticeReceiver) -> bool:
        """Whether others are left."""
        self._hearers = tuple(other for other in self._hearers if other is not hearer)
        self._stream.wake()
        return bool(self._hearers)

    def stop(self) -> None:
        """Let the thread end. Callable from any thread."""
        self._stopped = True
        self._stream.wake()

    def wait(self, timeout: float) -> bool:
        """Whether the thread has ended, at the latest after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            while not self._stopped:
                hearers = self._hearers
                wanted = frozenset[int]().union(*(hearer.partitions for hearer in hearers))
                hints = self._look(wanted) if self._looks else self._listen(wanted)
                for hearer in hearers if hints else ():
                    hearer.tell(hints)
        except Exception as error:  # consumers look at the log by themselves once in a while
            get_logger("projection").warning("ear_failed", error=type(error).__name__, at=raised_at(error))
        finally:
            self._stream.close()

    def _follow(self, partitions: frozenset[int]) -> None:
        if partitions != self._followed:
            self._stream.follow(partitions, self._level)
            self._followed = partitions

    def _listen(self, wanted: frozenset[int]) -> Mapping[int, int]:
        self._follow(wanted)
        hints = self._stream.receive(None)
        for partition, position in hints.items():
            self._heard += max(0, position - self._ends.get(partition, position))
            self._ends[partition] = position
        if self._heard >= _MUCH:
            now = monotonic()
            self._looks = now - self._since < 1.0
            self._heard, self._since = 0, now
        return hints

    def _look(self, wanted: frozenset[int]) -> Mapping[int, int]:
        """What has moved since the last look. Who listens again is told to look everywhere, so nothing is missed."""
        self._follow(frozenset())
        self._stream.receive(_PAUSE)
        try:
            ends = self._log.positions()
        except DuramenError:
            self._looks = False  # the stream knows how to wait for a server
            return {}
        before, self._ends = self._ends, {partition: ends[partition] for partition in wanted}
        grown = {partition: end - before.get(partition, 0) for partition, end in self._ends.items()}
        self._looks = sum(map(abs, grown.values())) > _LITTLE
        # A feed that has become shorter is another one: nobody knows how far to read.
        return {partition: self._ends[partition] if more > 0 else 0 for partition, more in grown.items() if more}
