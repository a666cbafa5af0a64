"""The server's clock, as far as it is known here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Nobody sets it, and it runs while the machine is suspended, where there is such a clock."""
_TRIES: Final = 5
"""Readings of this machine's clock, of which the one that took the shortest time counts."""


def _elapsed() -> int:
    return time.clock_gettime_ns(BOOT_CLOCK) // 1_000


def _machine_time() -> int:
    return time.time_ns() // 1_000


class ServerClock:
    """Tells the server's time without asking for it each time, by a clock that nobody sets. Callable from any thread.

    A measurement says that the server's clock stood at a time at some moment between question and answer. The clock is
    moved only if it disagrees with that, so it is off by the time of one question and answer at most, and by what the
    server's clock was set since the last measurement. Until the first one it tells this machine's time.
    """

    def __init__(
        self,
        read: Callable[[], int | None],
        *,
        elapsed: Callable[[], int] = _elapsed,
        machine_time: Callable[[], int] = _machine_time,
    ) -> None:
        """`read` asks the server for its time; None: this user may not. All of them are in µs."""
        self._read = read
        self._elapsed = elapsed
        self._machine_time = machine_time
        tries = [self._compare(machine_time) for _ in range(_TRIES)]
        least, most = min(tries, key=lambda one: one[1] - one[0])
        self._offset = (least + most) // 2

    def now(self) -> int:
        """The server's time in µs since the epoch."""
        return self._elapsed() + self._offset

    def measure(self) -> None:
        """Ask the server for its time; one that does not tell it is taken to have this machine's. Blocks.

        Called by one thread at a time. Raises Unavailable.
        """
        least, most = self._compare(lambda: self._read() or self._machine_time())
        if not least <= self._offset <= most:
            self._offset = (least + most) // 2

    def _compare(self, read: Callable[[], int]) -> tuple[int, int]:
        """How far a clock is ahead of the one that nobody sets, at least and at most."""
        before = self._elapsed()
        found = read()
        return found - self._elapsed(), found - before
