"""Whether a process receives more notices than it can keep up with."""

from __future__ import annotations

from time import monotonic
from typing import Final

from attrs import define

_MANY: Final = 16
"""Notices that have gathered between two turns, on average: handling them delays events by more than a poll does."""
_TURNS: Final = 16
"""Turns over which the average is taken, about: a single turn may be late for another reason."""
_SHORTEST: Final = 2.0
_LONGEST: Final = 16.0


@define(eq=False, repr=False)
class Overload:
    """Not thread-safe. Reading what has come since the last poll takes less time than handling a notice for each part.

    listening ── many notices at each turn ──▶ polling ── some seconds, more each time in a row ──▶ listening
    """

    until: float = 0.0
    """A time of `monotonic` up to which polling is better."""
    _gathered: float = 0.0
    _pause: float = _SHORTEST

    @property
    def lasts(self) -> bool:
        """Whether polling is better now."""
        return monotonic() < self.until

    def note(self, notices: int) -> bool:
        """Count the notices of a turn; whether an overload begins with it."""
        self._gathered += (min(notices, 2 * _MANY) - self._gathered) / _TURNS
        now = monotonic()
        if self._gathered < _MANY or now < self.until:
            return False
        soon = now < self.until + _SHORTEST
        self._pause = min(_LONGEST, 2 * self._pause) if soon else _SHORTEST
        self.until, self._gathered = now + self._pause, 0.0
        return True

    def end(self) -> None:
        """Listen again at once."""
        self.until = min(self.until, monotonic())
