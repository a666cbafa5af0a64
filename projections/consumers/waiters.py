"""Waiting until a view has come as far as the log was at the call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from attrs import frozen

__all__ = ["Waiters"]


@frozen(eq=False)
class _Waiter:
    target: Mapping[int, int]
    saved: bool
    future: Future[None]


class Waiters:
    """Callers blocked until a view has reached feed positions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []

    def add(self, target: Mapping[int, int], *, saved: bool) -> Future[None]:
        """A future that is done when all these positions are reached; with `saved`, when they are stored."""
        waiter = _Waiter(target, saved, Future())
        with self._lock:
            self._waiters.append(waiter)
        return waiter.future

    def forget(self, future: Future[None]) -> None:
        """Drop a future whose caller has stopped waiting."""
        with self._lock:
            self._waiters = [waiter for waiter in self._waiters if waiter.future is not future]

    @property
    def any(self) -> bool:
        """Whether a caller waits."""
        return bool(self._waiters)

    @property
    def positions(self) -> dict[int, int]:
        """By partition, the highest position that a caller waits for."""
        found: dict[int, int] = {}
        for waiter in list(self._waiters):
            for partition, position in waiter.target.items():
                found[partition] = max(position, found.get(partition, 0))
        return found

    @property
    def for_saved(self) -> bool:
        """Whether a caller waits for positions to be stored."""
        return any(waiter.saved for waiter in list(self._waiters))

    def reached(self, positions: Mapping[int, int], saved: Mapping[int, int]) -> None:
        """Resolve the futures whose positions are reached."""
        self._end(lambda waiter: _covers(saved if waiter.saved else positions, waiter.target), None)

    def fail(self, error: BaseException) -> None:
        """Fail all futures: what they wait for will not come by itself."""
        self._end(lambda _: True, error)

    def _end(self, chosen: Callable[[_Waiter], bool], error: BaseException | None) -> None:
        if not self._waiters:
            return
        with self._lock:
            ended = [waiter for waiter in self._waiters if chosen(waiter)]
            self._waiters = [waiter for waiter in self._waiters if waiter not in ended]
        for waiter in ended:
            if not waiter.future.set_running_or_notify_cancel():
                continue
            if error is None:
                waiter.future.set_result(None)
            else:
                waiter.future.set_exception(error)


def _covers(positions: Mapping[int, int], target: Mapping[int, int]) -> bool:
    return all(positions.get(partition, 0) >= position for partition, position in target.items())
