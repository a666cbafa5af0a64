"""Hearing for all consumers of a system: one connection a level of detail, however many listen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Protocol

from duramen.events.log import EventLog, NoticeStream
from duramen.events.logs import get_logger, where

__all__ = ["Ear", "Ears", "SharedEar", "together"]


class Ear(Protocol):
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


class SharedEar:
    """What one consumer hears through. `receive` is for one thread; the rest for any."""

    def __init__(self, partitions: Collection[int], close: Callable[[SharedEar], None]) -> None:
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


class Ears:
    """Makes ears. Thread-safe. A thread a level: it starts with the first ear of that level, ends with the last."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._listeners: dict[int, _Listener] = {}
        self._ended: list[_Listener] = []

    def open(self, partitions: Collection[int], level: int) -> SharedEar:
        """An ear for these partitions, and for events up to this level."""
        with self._lock:
            listener = self._listeners.get(level)
            if listener is None:
                listener = self._listeners[level] = _Listener(self._log.notices(), level)
                listener.start()
            ear = SharedEar(partitions, lambda closed: self._leave(level, closed))
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

    def _leave(self, level: int, ear: SharedEar) -> None:
        with self._lock:
            listener = self._listeners.get(level)
            if listener is None or listener.remove(ear):
                return
            del self._listeners[level]
            self._ended = [ended for ended in self._ended if not ended.wait(0.0)]
            self._ended.append(listener)
            listener.stop()


class _Listener:
    """A stream of notices, and the thread that listens to it."""

    def __init__(self, stream: NoticeStream, level: int) -> None:
        self._stream = stream
        self._level = level
        self._ears: tuple[SharedEar, ...] = ()
        self._stopped = False
        self._thread = threading.Thread(target=self._main, name=f"duramen-projections-ear-{level}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, ear: SharedEar) -> None:
        self._ears = (*self._ears, ear)
        self._stream.wake()

    def remove(self, ear: SharedEar) -> bool:
        """Whether others are left."""
        self._ears = tuple(other for other in self._ears if other is not ear)
        self._stream.wake()
        return bool(self._ears)

    def stop(self) -> None:
        self._stopped = True
        self._stream.wake()

    def wait(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        followed: frozenset[int] = frozenset()
        try:
            while not self._stopped:
                ears = self._ears
                wanted = frozenset[int]().union(*(ear.partitions for ear in ears))
                if wanted != followed:
                    self._stream.follow(wanted, self._level)
                    followed = wanted
                hints = self._stream.receive(None)
                for ear in ears if hints else ():
                    ear.tell(hints)
        except Exception as error:  # consumers look at the log by themselves once in a while
            get_logger("projection").warning("ear_failed", error=type(error).__name__, at=where(error))
        finally:
            self._stream.close()
