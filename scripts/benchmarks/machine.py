"""What the figures were measured on, without naming it."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

from .servers import Server

__all__ = ["describe"]

_SYNCS = 50


def describe(folder: Path) -> list[str]:
    """Sentences: cores and load, programs and their versions, what a sync of the disk takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    with Server(folder) as server:
        served_by = server.version
    libraries = ", ".join(f"{name} {version(name)}" for name in ("redis", "hiredis", "msgpack", "pykka"))
    return [
        f"{cores} cores for everything, the servers included, and shared with other programs: the load was {load:.1f} "
        "before the first measurement.",
        f"{platform.system()}, {platform.python_implementation()} {platform.python_version()}, {served_by} "
        f"on a Unix socket; {libraries}.",
        f"Writing and syncing 200 bytes to the disk took {_sync_seconds(folder) * 1e6:,.0f} µs (median of {_SYNCS}).",
    ]


def _sync_seconds(folder: Path) -> float:
    taken: list[float] = []
    with TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(bytes(200))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return median(taken)
