"""Defects of the library that its core logs and outlives: nobody would see them in a test that passes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DefectLog"]

_EVENTS = ("core_failed", "posted_work_failed", "run_failed", "settling_failed")
_LINES = tuple(f"event={name!r}" for name in _EVENTS)


class DefectLog(logging.Handler):
    """Keeps the lines about defects of the core. A handler of the logger `duramen`."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._lines: list[tuple[int | None, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith(_LINES):
            self._lines.append((record.thread, line))

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """After this block, the list has the lines that this thread, or one that was started in it, has logged.

        Others belong to a system that was there before: of an earlier test, or of several tests.
        """
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        self._lines.clear()
        found: list[str] = []
        yield found
        found += [line for thread, line in self._lines if thread not in others]
