"""Notices of the log in memory, summed up like those of a server's channels."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from ..log import Notice
from .stream import MemoryStream

_MOST: Final = 1_000
"""Notices that wait with their events; the events of others are read from the log."""

Listen = Callable[[Callable[[Notice], None]], Callable[[], None]]


class MemoryNotices(MemoryStream):
    """A `NoticeStream` over `MemoryLog.listen`."""

    def __init__(self, listen: Listen, *, events: bool = False) -> None:
        super().__init__()
        self._events = events
        self._partitions: frozenset[int] = frozenset()
        self._level = 0
        self._positions: dict[int, int] = {}
        self._waiting: list[Notice] = []
        self.received = 0
        self._taken: list[Notice] = []
        self._ignore = listen(self._note)

    @property
    def unexpected(self) -> int:
        return 0

    def follow(self, partitions: Collection[int], level: int) -> None:
        with self._changed:
            if self._closed:
                return
            more = level > self._level
            fresh = [partition for partition in partitions if more or partition not in self._partitions]
            self._partitions, self._level = frozenset(partitions), level
            known = {partition: at for partition, at in self._positions.items() if partition in self._partitions}
            self._positions = known | dict.fromkeys(fresh, 0)
            self._waiting = []
            self._changed.notify_all()

    def receive(self, timeout: float | None) -> dict[int, int]:
        with self._changed:
            self._wait(lambda: self._positions, timeout)
            positions, self._positions = self._positions, {}
            self._taken, self._waiting = self._waiting, []
            return positions

    def take_notices(self) -> list[Notice]:
        taken, self._taken = self._taken, []
        return taken

    def _stop(self) -> None:
        self._ignore()
        with self._changed:
            self._positions = {}

    def _note(self, notice: Notice) -> None:
        with self._changed:
            if notice.partition in self._partitions and notice.level <= self._level and not self._closed:
                known = self._positions.get(notice.partition, notice.position)
                self._positions[notice.partition] = max(known, notice.position) if known else 0
                self.received += 1
                if self._events and notice.events is not None and len(self._waiting) < _MOST:
                    self._waiting.append(notice)
                self._changed.notify_all()
