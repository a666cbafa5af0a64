"""Helper processes: how many are worth starting, and how one ends with its parent."""

from __future__ import annotations

import os
import select
import threading

__all__ = ["end_with", "usable_cores"]


def end_with(descriptor: int, name: str) -> None:
    """End this process at once when the other end of a socket is closed, as it is when who holds it has ended.

    Whatever this process does or waits for. A thread of this name waits for that.
    """
    threading.Thread(target=_wait_and_end, args=(descriptor,), name=name, daemon=True).start()


def _wait_and_end(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", select.POLLHUP))
    poll.poll()
    os._exit(1)


def usable_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
