"""What streams of a log in memory have in common: they are waited on, woken and closed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition


class MemoryStream:
    """A stream that blocks its reader until something has arrived. All calls may come from any thread."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._woken = False
        self._closed = False

    def _wait(self, has_arrived: Callable[[], object], timeout: float | None) -> None:
        """Wait, holding the lock, until something has arrived, `wake` or `close` was called, or the time is over."""
        self._changed.wait_for(lambda: has_arrived() or self._woken or self._closed, timeout)
        self._woken = False

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._stop()

    def _stop(self) -> None:
        """Let nothing more arrive. Called once."""
        raise NotImplementedError
