"""A pool of threads for calls that may block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic

from duramen.events.logging import get_logger, raised_at


class ThreadPool:
    """Runs work in at most `most` daemon threads, started as needed; further work waits in order.

    A thread without work ends after `idle` seconds; None: never. The threads are daemons, so that a handler that never
    returns cannot keep the program from ending.
    """

    def __init__(self, name: str, most: int, idle: float | None = 10.0) -> None:
        self._name = name
        self._most = most
        self._idle_for = idle
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_work = 0  # submitted, started by no thread yet
        self._waiting_threads = 0
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._closing = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` in an idle thread or a new one. An exception of it is logged."""
        last = False
        with self._lock:
            self._waiting_work += 1
            if self._waiting_work > self._waiting_threads and len(self._threads) < self._most:
                self._start()
                last = self._closing
        self._work.put(work)
        if last:
            self._work.put(None)  # `close` did not count the thread that was just started

    def close(self, timeout: float) -> bool:
        """Wait until all work has ended, at most `timeout` seconds. Returns whether all threads have ended.

        Work that running work submits meanwhile is done too, since the running work may be waiting for it.
        """
        with self._lock:
            self._closing = True
            threads = list(self._threads)
        for _ in threads:
            self._work.put(None)
        deadline = monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def runs_here(self) -> bool:
        """Whether the calling thread is one of this pool."""
        return threading.current_thread() in self._threads

    def _start(self) -> None:
        self._started += 1
        self._waiting_threads += 1  # from now on: two submits must not count on one thread
        thread = threading.Thread(target=self._main, name=f"duramen-{self._name}-{self._started}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the machine gives no more threads: those there are do the work
            self._threads.discard(thread)
            self._waiting_threads -= 1
            if not self._threads:
                self._waiting_work -= 1
                raise

    def _main(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=self._idle_for)
            except Empty:
                if self._may_end():
                    return
                continue
            if work is None:
                if self._may_end():
                    return
                self._work.put(None)  # behind the work that was submitted meanwhile
                continue
            with self._lock:
                self._waiting_threads -= 1
                self._waiting_work -= 1
            try:
                work()
            except BaseException as error:  # a SystemExit ends the work, not the pool
                get_logger("workers").error("work_failed", error=type(error).__name__, at=raised_at(error))
            del work  # an idle thread must not keep the last agent in memory
            with self._lock:
                self._waiting_threads += 1

    def _may_end(self) -> bool:
        """Whether this idle thread may end, because no submitted work waits; if so, it no longer counts."""
        with self._lock:
            if self._waiting_work > 0:
                return False
            self._waiting_threads -= 1
            self._threads.discard(threading.current_thread())
            return True
