"""What is to be done at a time, by a thread that has other things to do until then."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic

__all__ = ["TimerQueue"]


class TimerQueue:
    """Used by one thread. Times are those of `monotonic`."""

    def __init__(self) -> None:
        self._set: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def next(self) -> float:
        """When the next one is due; infinity if there is none."""
        return self._set[0][0] if self._set else inf

    def add(self, when: float, call: Callable[[], None]) -> None:
        """Have something quick called at a time. Of the same time, the first comes first."""
        heappush(self._set, (when, next(self._numbers), call))

    def ring(self) -> None:
        """Call what is due."""
        while self.next <= monotonic():
            heappop(self._set)[2]()
