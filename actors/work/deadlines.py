"""Deadlines of an agent's work: the agent is looked at again when one has passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from duramen.projections.state import Piece

from ..dispatch import Timer
from .execution import START

if TYPE_CHECKING:
    from ..handlers import Services

MICROSECONDS: Final = 1_000_000


def call_at(services: Services, due: int, call: Callable[[], None]) -> Timer:
    """Make a call in the core at a time in µs since the epoch, by the system's clock, which may be set meanwhile."""

    def seconds_left() -> float:
        return float((due - services.now()) / MICROSECONDS)

    def expire() -> float | None:
        left = seconds_left()
        if left > 0:  # the clock was set back
            return left
        services.dispatcher.post(call)
        return None

    return services.timers.call_later(max(0.0, seconds_left()), expire)


class Deadlines:
    """The deadlines of one agent's work, by work and number; number `START`: of the work itself. Used in the core."""

    def __init__(self, services: Services, passed: Callable[[], None]) -> None:
        """`passed` is called when a deadline has passed."""
        self._services = services
        self._passed = passed
        self._timers: dict[tuple[int, int], Timer] = {}
        self._due: set[tuple[int, int]] = set()

    def is_due(self, work: int, number: int, due: int | None = None) -> bool:
        """Whether the deadline has passed, which may be known without a look at the clock."""
        return (work, number) in self._due or (due is not None and self._services.now() >= due)

    def wait_until(self, work: int, number: int, due: int) -> None:
        """Wait for a deadline in µs since the epoch, unless that is done already."""
        key = work, number
        if key in self._timers:
            return

        def expire() -> None:
            if self._timers.get(key) is timer:
                del self._timers[key]
                self._due.add(key)
                self._passed()

        timer = self._timers[key] = call_at(self._services, due, expire)

    def forget(self, work: int, number: int) -> None:
        """Forget that a deadline has passed: it is acted upon."""
        self._due.discard((work, number))

    def keep(self, pieces: Mapping[str, Piece]) -> None:
        """Forget the deadlines of what is not waited for any more."""
        if self._timers or self._due:
            for key in [key for key in self._timers if not _is_waited_for(pieces, key)]:
                self._timers.pop(key).cancel()
            self._due = {key for key in self._due if _is_waited_for(pieces, key)}

    def stop(self) -> None:
        """Wait for nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers = {}


def _is_waited_for(pieces: Mapping[str, Piece], key: tuple[int, int]) -> bool:
    piece = pieces.get(str(key[0]))
    return piece is not None and (key[1] == START or str(key[1]) in piece["pending"])
