"""Resident memory of this process."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Watch", "resident"]

_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes resident now; where the system does not tell (no /proc), the most there ever were."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Watch:
    """Remembers the most that was seen."""

    def __init__(self) -> None:
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, resident())

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
