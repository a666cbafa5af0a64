"""Calls that are due at a time, made by a thread that does other things until then."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic


class TimerQueue:
    """Not thread-safe. Times are those of `monotonic`."""

    def __init__(self) -> None:
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def next(self) -> float:
        """When the next timer is due; infinity if there is none."""
        return self._timers[0][0] if self._timers else inf

    def add(self, when: float, call: Callable[[], None]) -> None:
        """Have something quick called at a time. Calls of the same time are made in the order of adding."""
        heappush(self._timers, (when, next(self._numbers), call))

    def run_due(self) -> None:
        """Make the calls that are due."""
        while self.next <= monotonic():
            heappop(self._timers)[2]()
