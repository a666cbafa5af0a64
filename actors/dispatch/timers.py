"""Timers call functions at a later time, all in one thread."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from duramen.events.logging import get_logger, raised_at

__all__ = ["Timer", "Timers"]


class Timer:
    """A call that is due later. `cancel` prevents it and its repetitions."""

    __slots__ = ("_call", "cancelled", "done", "interval")

    def __init__(self, call: Callable[[], object], interval: float | None) -> None:
        self._call = call
        self.interval = interval
        self.cancelled = False
        self.done = False

    def cancel(self) -> None:
        """Prevent further calls; a call that has begun is not interrupted. Callable from any thread, more than once."""
        self.cancelled = self.done = True

    def run(self) -> None:
        """Make the call; called in the timers' thread."""
        if not self.cancelled:
            self._call()
            self.done = self.interval is None


class Timers:
    """Calls due functions one after another, in one thread that starts with the first timer.

    The functions must not block. A repeated call keeps its interval; calls missed, say while the machine slept, are
    not made up for.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Timer]] = []
        self._number = count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call once, `seconds` from now."""
        return self._add(seconds, Timer(call, None))

    def call_every(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call every `seconds`, the first time after as many."""
        return self._add(seconds, Timer(call, seconds))

    def close(self, timeout: float) -> None:
        """Make no more calls; wait at most `timeout` seconds for a call that has begun."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def runs_here(self) -> bool:
        """Whether the calling thread is the timers' own."""
        return threading.current_thread() is self._thread

    def _add(self, seconds: float, timer: Timer) -> Timer:
        with self._changed:
            heapq.heappush(self._due, (monotonic() + seconds, next(self._number), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="duramen-timers", daemon=True)
                self._thread.start()
            self._changed.notify()
        return timer

    def _main(self) -> None:
        while (timer := self._next()) is not None:
            try:
                timer.run()
            except Exception as error:  # say, a full mailbox: the next timer is due all the same
                get_logger("timers").warning("timer_failed", error=type(error).__name__, at=raised_at(error))

    def _next(self) -> Timer | None:
        """Block until a timer is due and return it; None once closed."""
        with self._changed:
            while not self._closed:
                if not self._due:
                    self._changed.wait()
                elif (left := self._due[0][0] - monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    when, _, timer = heapq.heappop(self._due)
                    if timer.interval is not None and not timer.cancelled:
                        following = max(when + timer.interval, monotonic())
                        heapq.heappush(self._due, (following, next(self._number), timer))
                    return timer
            return None
