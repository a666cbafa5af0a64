"""What a test run must not leave behind: threads of the library, and servers or other programs it started."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from waiting import process_ends

__all__ = ["note_threads", "processes_left", "threads_left", "where_threads_are"]

_PROCESSES = Path("/proc")
_DEAD = {"Z", "X"}


def note_threads(seen: dict[int, str], test: str) -> None:
    """Note for the library's threads that are alive after which test they were first seen."""
    for thread in _our_threads():
        seen.setdefault(id(thread), test)


def threads_left(seconds: float, seen: dict[int, str] | None = None) -> list[str]:
    """Names of the library's threads that are still alive after this long, and the test that `seen` has for each."""
    deadline = time.monotonic() + seconds
    for thread in _our_threads():
        thread.join(max(0.0, deadline - time.monotonic()))
    tests = seen or {}
    return sorted(f"{thread.name} {tests.get(id(thread), '')}".strip() for thread in _our_threads())


def where_threads_are() -> str:
    """The innermost calls of each of the library's threads, as `file:line`."""
    frames = sys._current_frames()
    return "; ".join(f"{thread.name}: {_place(frames.get(thread.ident or 0))}" for thread in _our_threads())


def processes_left(folder: Path, seconds: float) -> dict[int, str]:
    """Programs that still run after this long, by process id: what works below `folder`, and our servers.

    A server that was detached from us is found by its working directory, which is its data directory. Where
    the system shows no processes (there is no /proc), nothing is found.
    """
    deadline = time.monotonic() + seconds
    for pid in _our_processes(folder):
        process_ends(pid, max(0.0, deadline - time.monotonic()))
    return _our_processes(folder)


def _our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("duramen-")]


def _place(frame: FrameType | None) -> str:
    stack = traceback.extract_stack(frame)[-8:] if frame else []
    return " > ".join(f"{Path(call.filename).name}:{call.lineno}" for call in stack)


def _our_processes(folder: Path) -> dict[int, str]:
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    below: set[int] = set()
    for entry in _PROCESSES.glob("[0-9]*"):
        # A process can end while it is looked at, and some of them belong to others.
        with contextlib.suppress(OSError):
            name, state, parent = _stat(entry)
            if state in _DEAD:
                continue
            pid = int(entry.name)
            parents[pid], names[pid] = parent, name
            if _works_below(entry, folder):
                below.add(pid)
    servers = {pid for pid in names if names[pid].endswith("-server") and _descends(pid, parents)}
    return {pid: names[pid] for pid in sorted(below | servers) if pid != os.getpid()}


def _stat(entry: Path) -> tuple[str, str, int]:
    # The name stands in parentheses and may hold any character, even a parenthesis.
    before, _, after = (entry / "stat").read_text().rpartition(")")
    state, parent = after.split()[:2]
    return before.partition("(")[2], state, int(parent)


def _works_below(entry: Path, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        # A removed directory is shown with the words " (deleted)" behind it.
        return Path(os.readlink(entry / "cwd")).is_relative_to(folder)
    return False


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()
