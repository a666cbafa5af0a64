"""Hearing for all consumers of a system: one connection a level of detail, however many there are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Protocol

from duramen.events.log import EventLog

from .listener import Listener

__all__ = ["Inlet", "ListenerPool", "NoticeSource", "together"]


class NoticeSource(Protocol):
    """What a runner hears of new events through."""

    def receive(self, timeout: float | None) -> dict[int, int]:
        """Partitions that may have moved, and how far; waits at most `timeout` seconds or until `wake`."""
        ...

    def rest(self, seconds: float) -> None:
        """Wait so long, or until `wake`, whatever is heard."""
        ...

    def wake(self) -> None:
        """End a `receive` or `rest` that waits, or the next one."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def together(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """How far partitions may have moved by both; 0 stands for unknown, and outweighs any position."""
    found = dict(one)
    for number, position in other.items():
        known = found.get(number, position)
        found[number] = 0 if 0 in (known, position) else max(known, position)
    return found


class Inlet:
    """What one consumer hears through. `receive` is for one thread; the rest for any."""

    def __init__(self, partitions: Collection[int], close: Callable[[Inlet], None]) -> None:
        self._partitions = frozenset(partitions)
        self._close = close
        self._changed = threading.Condition()
        self._hints: dict[int, int] = {}
        self._woken = self._resting = False

    def receive(self, timeout: float | None) -> dict[int, int]:
        """Partitions that may have moved, and how far; waits at most `timeout` seconds or until `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self._hints or self._woken, timeout)
            hints, self._hints, self._woken = self._hints, {}, False
            return hints

    def rest(self, seconds: float) -> None:
        """Wait so long, or until `wake`, whatever is heard; that is for the next `receive`."""
        with self._changed:
            self._resting = True
            self._changed.wait_for(lambda: self._woken, seconds)
            self._resting = False

    def tell(self, hints: Mapping[int, int]) -> None:
        """Note what was heard."""
        concerning = {number: position for number, position in hints.items() if number in self._partitions}
        if not concerning:
            return
        with self._changed:
            self._hints = together(self._hints, concerning)
            if not self._resting:
                self._changed.notify_all()

    def wake(self) -> None:
        """End a `receive` or `rest` that waits, or the next one."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Hear nothing any more."""
        self._close(self)
        self.wake()

    @property
    def partitions(self) -> frozenset[int]:
        return self._partitions


class ListenerPool:
    """Makes ears. Thread-safe. A thread a level: it starts with the first ear of that level, ends with the last."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._listeners: dict[int, Listener] = {}
        self._ended: list[Listener] = []

    def open(self, partitions: Collection[int], level: int) -> Inlet:
        """An ear for these partitions, and for events up to this level."""
        with self._lock:
            listener = self._listeners.get(level)
            if listener is None:
                listener = self._listeners[level] = Listener(self._log, level)
                listener.start()
            ear = Inlet(partitions, lambda closed: self._leave(level, closed))
            listener.add(ear)
            return ear

    def close(self, timeout: float) -> bool:
        """End all threads; whether they have ended within `timeout` seconds."""
        deadline = monotonic() + timeout
        with self._lock:
            self._ended += self._listeners.values()
            self._listeners = {}
            ended = list(self._ended)
        for listener in ended:
            listener.stop()
        gone = [listener.wait(max(0.0, deadline - monotonic())) for listener in ended]
        return all(gone)

    def after_fork(self) -> None:
        """In a forked child: no thread of ours lives here."""
        self._lock = threading.Lock()
        self._listeners = {}
        self._ended = []

    def _leave(self, level: int, ear: Inlet) -> None:
        with self._lock:
            listener = self._listeners.get(level)
            if listener is None or listener.remove(ear):
                return
            del self._listeners[level]
            self._ended = [ended for ended in self._ended if not ended.wait(0.0)]
            self._ended.append(listener)
            listener.stop()
