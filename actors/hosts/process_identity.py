"""Which process this is, and whether another one of the same machine has ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_START_TIME: Final = 19
"""Place of a process's start time among the fields after its name in `/proc/PID/stat`; see proc(5), field 22."""
_ENDED_STATES: Final = frozenset("ZX")

Machine = tuple[str, int, int, int]
"""Boot id, pid namespace, pid, and start time in clock ticks after boot: no two processes have the same."""


def this_process() -> Machine | None:
    """The identity of this process; None where the system does not tell all of it, as outside Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        seen_as = Path("/proc/self/stat").read_text("ascii", "replace").split(" ", 1)[0]
    except OSError:
        return None
    pid = os.getpid()
    found = _stat(pid)
    # A /proc of another namespace is of no use: its numbers are other processes.
    if not boot or found is None or seen_as != str(pid):
        return None
    return boot, namespace, pid, found[1]


def has_ended(machine: Machine | None, here: Machine | None) -> bool:
    """Whether a process has certainly ended; `here` is `this_process()` of the caller.

    True only for a process of the same boot and pid namespace that is no more, or only waits for its parent to be
    asked about. A process that was stopped (SIGSTOP) lives. False where it cannot be told.
    """
    if machine is None or here is None or machine[:2] != here[:2]:
        return False
    _, _, pid, started = machine
    found = _stat(pid)
    if found is not None:
        state, start = found
        return start != started or state in _ENDED_STATES
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's, and hidden from us (`hidepid`)
        return False
    return False


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process; None if it cannot be seen."""
    try:
        # The name in parentheses may have any characters.
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return (fields[0], int(fields[_START_TIME])) if len(fields) > _START_TIME else None
