"""Listening for all consumers of a system: one connection a level, however many consumers there are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Final, Protocol

from duramen.events.log import EventLog
from duramen.events.logging import get_logger, raised_at

from .listener import Listener

_PACE: Final = 0.04
"""Seconds between two turns of a listening thread: consumers read in rounds, so they need not be woken more often."""


class NoticeSource(Protocol):
    """Says to a runner which partitions may have moved."""

    def receive(self, timeout: float | None) -> dict[int, int]:
        """Partitions that may have moved, and how far; waits at most `timeout` seconds or until `wake`."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait so long, or until `wake`, whatever notices arrive."""
        ...

    def wake(self) -> None:
        """End a `receive` or `pause` that waits, or the next one."""
        ...

    def close(self) -> None:
        """Receive nothing any more."""
        ...


def merge_positions(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """How far partitions may have moved by both; 0 stands for unknown, and outweighs any position."""
    found = dict(one)
    for number, position in other.items():
        known = found.get(number, position)
        found[number] = 0 if 0 in (known, position) else max(known, position)
    return found


class Inlet:
    """The `NoticeSource` of one consumer. `receive` and `pause` are for one thread; the other calls for any."""

    def __init__(self, partitions: Collection[int], close: Callable[[Inlet], None]) -> None:
        self.partitions = frozenset(partitions)
        self._close = close
        self._changed = threading.Condition()
        self._moved: dict[int, int] = {}
        self._woken = self._pausing = False

    def receive(self, timeout: float | None) -> dict[int, int]:
        with self._changed:
            self._changed.wait_for(lambda: self._moved or self._woken, timeout)
            moved, self._moved, self._woken = self._moved, {}, False
            return moved

    def pause(self, seconds: float) -> None:
        with self._changed:
            self._pausing = True
            self._changed.wait_for(lambda: self._woken, seconds)
            self._pausing = False

    def add(self, moved: Mapping[int, int]) -> None:
        """Note which partitions may have moved. Those of others are ignored."""
        concerning = {number: position for number, position in moved.items() if number in self.partitions}
        if not concerning:
            return
        with self._changed:
            self._moved = merge_positions(self._moved, concerning)
            if not self._pausing:
                self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        self._close(self)
        self.wake()


class _ListeningThread:
    """A listener for events up to one level, and the thread that hands positions to inlets."""

    def __init__(self, log: EventLog, level: int) -> None:
        self._listener = Listener(log, events=False)
        self._level = level
        self._inlets: tuple[Inlet, ...] = ()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"duramen-listener-{level}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, inlet: Inlet) -> None:
        """Hand positions to one more inlet. `add` and `remove` must not run at the same time."""
        self._inlets = (*self._inlets, inlet)
        self._listener.wake()

    def remove(self, inlet: Inlet) -> bool:
        """Whether others are left."""
        self._inlets = tuple(other for other in self._inlets if other is not inlet)
        self._listener.wake()
        return bool(self._inlets)

    def stop(self) -> None:
        """Let the thread end. Callable from any thread."""
        self._stopped.set()
        self._listener.wake()

    def wait(self, timeout: float) -> bool:
        """Whether the thread has ended, at the latest after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                inlets = self._inlets
                self._listener.follow(frozenset[int]().union(*(inlet.partitions for inlet in inlets)), self._level)
                moved, _ = self._listener.receive(None)
                for inlet in inlets if moved else ():
                    inlet.add(moved)
                self._stopped.wait(_PACE if moved else 0.0)
        except Exception as error:  # consumers ask the log by themselves once in a while
            get_logger("projection").warning("listener_failed", error=type(error).__name__, at=raised_at(error))
        finally:
            self._listener.close()


class ListenerPool:
    """Makes inlets. Thread-safe. The thread of a level starts with its first inlet and ends with its last."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._threads: dict[int, _ListeningThread] = {}
        self._ended: list[_ListeningThread] = []

    def open(self, partitions: Collection[int], level: int) -> Inlet:
        """An inlet for these partitions, and for events up to this level."""
        with self._lock:
            thread = self._threads.get(level)
            if thread is None:
                thread = self._threads[level] = _ListeningThread(self._log, level)
                thread.start()
            inlet = Inlet(partitions, lambda closed: self._leave(level, closed))
            thread.add(inlet)
            return inlet

    def close(self, timeout: float) -> bool:
        """End all threads; whether they have ended within `timeout` seconds."""
        deadline = monotonic() + timeout
        with self._lock:
            self._ended += self._threads.values()
            self._threads = {}
            ended = list(self._ended)
        for thread in ended:
            thread.stop()
        gone = [thread.wait(max(0.0, deadline - monotonic())) for thread in ended]
        return all(gone)

    def after_fork(self) -> None:
        """Forget the threads, in a forked child: they live in the parent."""
        self._lock = threading.Lock()
        self._threads = {}
        self._ended = []

    def _leave(self, level: int, inlet: Inlet) -> None:
        with self._lock:
            thread = self._threads.get(level)
            if thread is None or thread.remove(inlet):
                return
            del self._threads[level]
            self._ended = [ended for ended in self._ended if not ended.wait(0.0)]
            self._ended.append(thread)
            thread.stop()
