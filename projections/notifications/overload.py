"""Telling when a process hears more than it can listen to."""

from __future__ import annotations

from time import monotonic
from typing import Final

from attrs import define

__all__ = ["Overload"]

_MANY: Final = 16
"""Messages that have gathered between two turns, on average: whoever hears them is late by more than a look takes."""
_TURNS: Final = 16
"""Over about so many turns. One alone may be late for another reason."""
_SHORTEST: Final = 2.0
_LONGEST: Final = 16.0


@define
class Overload:
    """Used by one thread. To read what has come since the last look takes less than to be told of each part of it.

    listening ── many messages at each turn ──▶ looking ── some seconds, more each time in a row ──▶ listening
    """

    until: float = 0.0
    """A time of `monotonic` up to which it is better to look now and then."""
    _gathered: float = 0.0
    _pause: float = _SHORTEST

    @property
    def looks(self) -> bool:
        """Whether it is better to look now."""
        return monotonic() < self.until

    def heard(self, messages: int) -> None:
        """Note how many messages there were at a turn."""
        self._gathered += (min(messages, 2 * _MANY) - self._gathered) / _TURNS
        now = monotonic()
        if self._gathered < _MANY or now < self.until:
            return
        soon = now < self.until + _SHORTEST
        self._pause = min(_LONGEST, 2 * self._pause) if soon else _SHORTEST
        self.until, self._gathered = now + self._pause, 0.0
