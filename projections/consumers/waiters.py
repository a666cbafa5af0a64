"""Waiting until a view has come as far as the log was at the call."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from attrs import frozen


@frozen(eq=False)
class Waiter:
    """A caller that waits for positions in feeds; with `saved`, until they are stored."""

    target: Mapping[int, int]
    saved: bool
    future: Future[None]


class Waiters:
    """Callers blocked until a view has reached feed positions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []

    def add(self, target: Mapping[int, int], *, saved: bool) -> Future[None]:
        """A future that is done when all these positions are reached; with `saved`, when they are stored."""
        waiter = Waiter(target, saved, Future())
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

    def all(self) -> list[Waiter]:
        return list(self._waiters)

    def reached(
        self, waiters: Sequence[Waiter], positions: Mapping[int, int], saved: Mapping[int, int]
    ) -> list[Waiter]:
        """The given waiters whose positions are reached."""
        return [one for one in waiters if _covers(saved if one.saved else positions, one.target)]

    def resolve(self, waiters: Sequence[Waiter]) -> None:
        """Let their calls return."""
        self._end(waiters, None)

    def fail(self, error: BaseException, waiters: Sequence[Waiter] | None = None) -> None:
        """Raise an error in these calls, by default in all: what they wait for will not come by itself."""
        self._end(self.all() if waiters is None else waiters, error)

    def _end(self, waiters: Sequence[Waiter], error: BaseException | None) -> None:
        if not waiters:
            return
        with self._lock:
            self._waiters = [waiter for waiter in self._waiters if waiter not in waiters]
        for waiter in waiters:
            if not waiter.future.set_running_or_notify_cancel():
                continue
            if error is None:
                waiter.future.set_result(None)
            else:
                waiter.future.set_exception(error)


def _covers(positions: Mapping[int, int], target: Mapping[int, int]) -> bool:
    return all(positions.get(partition, 0) >= position for partition, position in target.items())
