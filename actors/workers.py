"""Threads for what may block: started as needed, up to a bound, gone when idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from duramen.events.logs import get_logger

__all__ = ["Workers"]


class Workers:
    """A pool of daemon threads. Work beyond `most` threads waits in order; a thread without work ends after `idle` s.

    Daemon, so that a handler that never returns cannot keep the program from ending.
    """

    def __init__(self, name: str, most: int, idle: float = 10.0) -> None:
        self._name = name
        self._most = most
        self._idle = idle
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread of its own turn. What it raises is logged."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
            elif len(self._threads) < self._most:
                self._start()
            self._work.put(work)

    def close(self, timeout: float) -> bool:
        """Let running work end, at most `timeout` seconds; whether all threads are gone."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for _ in threads:
                self._work.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
                if thread.is_alive():
                    return False
        return True

    def _start(self) -> None:
        self._started += 1
        thread = threading.Thread(target=self._main, name=f"duramen-{self._name}-{self._started}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _main(self) -> None:
        log = get_logger("workers")
        me = threading.current_thread()
        while True:
            try:
                work = self._work.get(timeout=self._idle)
            except Empty:
                if self._leave(me):
                    return
                continue
            if work is None:
                with self._lock:
                    self._threads.discard(me)
                return
            try:
                work()
            except BaseException as error:  # a SystemExit ends the work, not the pool
                log.error("work_failed", error=type(error).__name__, exc_info=True)
            del work  # a waiting thread must not keep the last agent alive
            with self._lock:
                self._free += 1

    def _leave(self, me: threading.Thread) -> bool:
        """Whether an idle thread may end: not if work was counted on it in the meantime."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            self._threads.discard(me)
            return True
