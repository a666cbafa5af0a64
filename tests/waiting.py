"""Waiting with a deadline, so that no test sleeps and none hangs."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually", "process_ends"]

_Answer = TypeVar("_Answer")
_POLL_SECONDS = 0.01


def eventually(predicate: Callable[[], _Answer], timeout: float = 30.0, *, what: str = "") -> _Answer:
    """Ask again until the answer is true, and return it; `AssertionError` after `timeout` seconds.

    Only for what cannot be waited for: another process's doing. Within a process use events and conditions.
    """
    deadline = time.monotonic() + timeout
    never = threading.Event()
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            name = what or getattr(predicate, "__name__", "it")
            raise AssertionError(f"{name} was still {answer!r} after {timeout} s")
        never.wait(_POLL_SECONDS)


def process_ends(pid: int, timeout: float = 30.0) -> bool:
    """Wait until a process, not necessarily a child of ours, has ended; False if it still runs after that.

    A process that has ended and was not yet reaped by its parent counts as ended.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)
