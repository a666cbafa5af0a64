"""What the two processes say to each other: short messages on a socket, and windows in memory that both have.

A window has some MiB: through a socket it would go in many portions, at each of which one process waits for the other.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final, cast

import msgpack

__all__ = [
    "AT_A_TIME",
    "CONNECTIONS",
    "DONE",
    "FREE",
    "READ",
    "TROUBLE",
    "WINDOW",
    "hear",
    "read_slot",
    "say",
    "write_slot",
]

AT_A_TIME: Final = 2
"""Partitions that are read: while a window of one is checked, the server has time for the other's."""
CONNECTIONS: Final = 1 + AT_A_TIME
"""That are lent: one for each of them, and one for what has to be asked for in turn."""

READ: Final = "read"
"""To the reading process: read a partition from a mark up to a position of its feed."""
FREE: Final = "free"
"""To it: what is in a slot has been taken out."""
WINDOW: Final = "window"
"""From it: the next window of a partition is in a slot, with so many bytes."""
DONE: Final = "done"
"""From it: all of a partition was read."""
TROUBLE: Final = "trouble"
"""From it: there is something odd in a partition, which is not read on."""

_MOST: Final = 256 * 1024
"""Bytes of a message: more than a socket takes at once."""


def say(connection: socket.socket, *message: Any) -> None:
    """Send one message. Raises OSError."""
    connection.sendall(msgpack.packb(message))


def hear(connection: socket.socket) -> list[Any] | None:
    """The next message; None where the other process has ended. Raises OSError."""
    message = connection.recv(_MOST)
    return cast("list[Any]", msgpack.unpackb(message)) if message else None


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
        raise OSError("a slot has less than was said")
    return packed
