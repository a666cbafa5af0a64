"""The messages between the two processes, and the shared memory in which windows are passed.

A window has some MiB: through a socket it would go in many portions, and at each one process waits for the other.
"""

from __future__ import annotations

import os
from typing import Final

AT_A_TIME: Final = 2
"""Partitions read in turn: while a window of one is checked, the server has time for the other's."""
CONNECTIONS: Final = 1 + AT_A_TIME
"""Connections lent: one for each of these partitions, and one for requests that cannot be sent ahead."""

READ: Final = "read"
"""To the helper: partition, feed position to read up to, and mark to read from."""
FREE: Final = "free"
"""To the helper: slot that may be written again."""
WINDOW: Final = "window"
"""From the helper: partition, slot that holds its next window, and bytes of the window."""
DONE: Final = "done"
"""From the helper: partition that was read to the end."""
FAILED: Final = "failed"
"""From the helper: partition that it reads no further, because something in it is wrong."""


def write_slot(descriptor: int, packed: bytes) -> None:
    """Raises OSError."""
    view = memoryview(packed)
    at = 0
    while at < len(packed):
        at += os.pwrite(descriptor, view[at:], at)


def read_slot(descriptor: int, size: int) -> bytes:
    """Raises OSError."""
    packed = os.pread(descriptor, size, 0)
    if len(packed) != size:
        raise OSError("a slot has fewer bytes than announced")
    return packed
