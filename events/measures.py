"""What a system has done so far: counts, and distributions, for metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from attrs import define, frozen

__all__ = ["Counts", "Distribution", "Histogram"]


@frozen
class Distribution:
    """How many measurements there were up to each bound; `counts` has one more, for those above the last bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    """The sum of all measurements."""


class Histogram:
    """Counts measurements by size. `observe` is for one thread at a time, `read` for any."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """The measurements so far."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


@define
class Counts:
    """Counts of what happens to agents. Changed in the core."""

    recoveries: int = 0
    """Agents that came into memory from their logs."""
    fences: int = 0
    """Turns that were refused because another host had taken the agent over."""
    parked: int = 0
    """Pieces of work that were parked."""
