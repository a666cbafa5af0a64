"""A wall clock that can be set: what Python code of this process reads as the time of day jumps, as after `date -s`.

Importing this sets it up, where `BATTERY_CLOCK` names a file; it has to come before the library, which takes the
functions of `time` by name. The clocks that count since the machine was started are left alone, as they are where
somebody sets the time of day.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["VARIABLE", "is_settable", "set_clock"]

VARIABLE: Final = "BATTERY_CLOCK"

_SECONDS: Final = struct.Struct("<q")


def set_clock(path: Path, ahead: int) -> None:
    """Have the clock of whoever uses this file be so many seconds ahead."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.write(_SECONDS.pack(ahead))


def is_settable() -> bool:
    """Whether the library in this process, too, sees a clock that can be set."""
    return VARIABLE in os.environ and sys.modules["duramen.actors.dispatch.mailbox"].time is time.time


def _install(path: Path) -> None:
    """Replace `time.time` and `time.time_ns` by ones that are as many seconds ahead as a file says."""
    real, real_ns = time.time, time.time_ns
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _SECONDS.size)

    def ahead() -> int:
        return int(_SECONDS.unpack(shared[:])[0])

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + ahead() * 1_000_000_000


if VARIABLE in os.environ:
    _install(Path(os.environ[VARIABLE]))
