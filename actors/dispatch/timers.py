"""Timers call functions at a later time, all in one thread."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from operator import itemgetter
from time import monotonic
from typing import Final, TypeAlias

from duramen.events.logging import get_logger, raised_at

_LEAST_KEPT: Final = 64
"""Cancelled timers are removed once as many timers are kept as this, or twice those that were left then."""
_MOST_TOGETHER: Final = 2_048
"""Timers that are looked through at once: some 0.3 ms of CPU time."""
_Entry: TypeAlias = tuple[float, int, "Timer"]


class Timer:
    """A call that is due later. `cancel` prevents it and its repetitions."""

    __slots__ = ("_call", "due", "interval")

    def __init__(self, call: Callable[[], object], due: float, interval: float | None) -> None:
        self._call: Callable[[], object] | None = call
        self.due = due
        """When it is called next, by the clock of its timers."""
        self.interval = interval

    @property
    def done(self) -> bool:
        """Whether it will not be called any more."""
        return self._call is None

    def cancel(self) -> None:
        """Prevent further calls; a call that has begun is not interrupted. Callable from any thread, more than once."""
        self._call = None  # and let go of what it holds

    def run(self, now: Callable[[], float]) -> bool:
        """Make the call; called in the timers' thread, with its clock. Returns whether another one is due."""
        call, again = self._call, None
        try:
            again = None if call is None else call()
        finally:
            if self.interval is not None:
                self.due = max(self.due + self.interval, now())
            elif type(again) is float:
                self.due = now() + again
            else:
                self._call = None
        return not self.done


class DueTimers:
    """Timers by when they are due, in heaps of a bounded size, so that no call takes long. Not thread-safe.

    Cancelled ones are removed as others come, from the newest heap and from that which was looked through longest ago.
    """

    __slots__ = ("_heaps", "_number", "_remove_at")

    def __init__(self) -> None:
        self._heaps: deque[list[_Entry]] = deque(([],))
        """The newest is the last; the first is the one that was looked through longest ago."""
        self._number = count()
        self._remove_at = _LEAST_KEPT

    def __iter__(self) -> Iterator[Timer]:
        return (entry[2] for heap in self._heaps for entry in heap)

    def push(self, timer: Timer) -> None:
        """Keep a timer that was not cancelled."""
        if len(self._heaps[-1]) >= self._remove_at:
            self._remove_cancelled()
        heapq.heappush(self._heaps[-1], (timer.due, next(self._number), timer))

    def first_due(self) -> float | None:
        """When the first timer is due; None: there is none. A cancelled one may count."""
        heap = self._first_heap()
        return heap[0][0] if heap else None

    def pop(self) -> Timer:
        """Remove the timer that is due first, of several the one that came first. Raises IndexError for none."""
        return heapq.heappop(self._first_heap())[2]

    def clear(self) -> None:
        """Remove all timers."""
        self._heaps = deque(([],))

    def _first_heap(self) -> list[_Entry]:
        if len(self._heaps) == 1:
            return self._heaps[0]
        return min((heap for heap in self._heaps if heap), key=itemgetter(0), default=self._heaps[-1])

    def _remove_cancelled(self) -> None:
        newest = _without_cancelled(self._heaps.pop())
        oldest = _without_cancelled(self._heaps.popleft()) if self._heaps else []
        full = [heap for heap in (newest, oldest) if len(heap) > _MOST_TOGETHER // 2]
        rest = [entry for heap in (newest, oldest) if len(heap) <= _MOST_TOGETHER // 2 for entry in heap]
        heapq.heapify(rest)
        self._heaps += (*full, rest)
        least = _LEAST_KEPT if len(self._heaps) == 1 else _MOST_TOGETHER // 4  # with others, it costs more
        self._remove_at = min(max(least, 2 * len(rest)), _MOST_TOGETHER)


def _without_cancelled(heap: list[_Entry]) -> list[_Entry]:
    left = [entry for entry in heap if not entry[2].done]
    heapq.heapify(left)
    return left


class Timers:
    """Calls due functions one after another, in one thread that starts with the first timer.

    The functions must not block. A repeated call keeps its interval; calls missed, say while the machine slept, are
    not made up for. A function of `call_later` that returns a float is called again, so many seconds later.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due = DueTimers()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._skipped = 0.0

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call once, `seconds` from now."""
        return self.start(Timer(call, self.now() + seconds, None))

    def call_every(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call every `seconds`, the first time after as many."""
        return self.start(Timer(call, self.now() + seconds, seconds))

    def now(self) -> float:
        """The time in seconds, by the clock of these timers."""
        return monotonic() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let so many seconds pass at once, as tests do: what is due until then is called now."""
        with self._changed:
            self._skipped += seconds
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Make no more calls; wait at most `timeout` seconds for a call that has begun."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def runs_here(self) -> bool:
        """Whether the calling thread is the timers' own."""
        return threading.current_thread() is self._thread

    def start(self, timer: Timer) -> Timer:
        """Let a timer run; one that was cancelled already does nothing.

        Raises RuntimeError where the machine gives no thread for the first one: this timer then never runs.
        """
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._main, name="duramen-timers", daemon=True)
                thread.start()  # raises where the machine gives no thread: the next timer asks for one again
                self._thread = thread
            if not timer.done and not self._closed:
                self._due.push(timer)
            self._changed.notify()
        return timer

    def _main(self) -> None:
        while (timer := self._next()) is not None:
            again = timer.interval is not None
            try:
                again = timer.run(self.now)
            except Exception as error:  # the next timer is due all the same
                get_logger("timers").warning("timer_failed", error=type(error).__name__, at=raised_at(error))
            if again:
                self.start(timer)

    def _next(self) -> Timer | None:
        """Block until a timer is due and return it; None once closed."""
        with self._changed:
            while not self._closed:
                due = self._due.first_due()
                if due is None:
                    self._changed.wait()
                elif (left := due - self.now()) > 0:
                    self._changed.wait(left)
                else:
                    return self._due.pop()
            return None
