"""Reading what another process writes, as it comes, with a deadline."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

__all__ = ["Stream"]

_SECONDS = 60.0


class Stream:
    """A pipe or terminal of another process. Reads only as much as is asked for, and keeps the rest."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.kept = ""
        """What was read and not taken."""

    def line(self) -> str:
        """The next line, without its end."""
        self._read_until(lambda: "\n" in self.kept)
        line, _, self.kept = self.kept.partition("\n")
        return line

    def until(self, text: str) -> str:
        """All up to the end of this text."""
        self._read_until(lambda: text in self.kept)
        before, found, self.kept = self.kept.partition(text)
        return before + found

    def _read_until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not there():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise AssertionError(f"this has not come within {_SECONDS} s; there was {self.kept!r}")
            read = os.read(self._descriptor, 65_536)
            if not read:
                raise AssertionError(f"the other side has ended; there was {self.kept!r}")
            self.kept += read.decode()
