"""Live output: what agents are saying, kept for a while beside their logs.

An output is a list of elements: a header, then entries, each some of its tokens. Headers and entries are bytes here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol, cast

from attrs import frozen

import msgpack

Output = tuple[str, str]
"""The agent, and the name of one of its outputs."""

MOST_TTL_MS: Final = 7 * 24 * 3_600_000
"""The longest time to live of an output, and that of an agent's list of outputs."""


@frozen
class OutputWrite:
    """An entry to be added to an output."""

    output: Output
    header: bytes
    """Different at each opening of an output."""
    index: int
    """How many elements stand before the entry. At 1 it is the first, and replaces an output with another header."""
    entry: bytes
    ttl_ms: int
    """For how long the output is kept from now on."""


class OutputStream(Protocol):
    """What is written to the outputs that are followed. It connects, and subscribes again, by itself.

    `follow`, `wake` and `close` may be called from any thread, `receive` by one at a time.
    """

    def follow(self, outputs: Collection[Output]) -> None:
        """Follow these outputs, and no others."""
        ...

    def receive(self, timeout: float | None) -> list[tuple[Output, bytes | None]]:
        """Outputs with what was published of each, in the order of arrival; None: it has to be read from the store.

        Waits at most `timeout` seconds, and ends early after a `wake` or `close`. Never raises for a lost server.
        """
        ...

    def wake(self) -> None:
        """End a `receive` that waits, or the next one."""
        ...

    def close(self) -> None:
        """Release the connection. Idempotent."""
        ...


class OutputStore(Protocol):
    """Outputs on the server. Every method blocks, is thread-safe, and raises typed errors."""

    def write(self, writes: Sequence[OutputWrite]) -> list[bool]:
        """Add entries, at most one to an output, and publish them. Twice is the same as once.

        False: the output is gone, was opened again since, or has lost elements; then nothing was changed.
        """
        ...

    def read(self, output: Output, index: int) -> list[bytes]:
        """The header, and the elements from `index` (at least 1) on; empty where there is no such output."""
        ...

    def listen(self) -> OutputStream:
        """A new stream with a connection of its own, which follows nothing yet."""
        ...


def notice_of_output(header: bytes, index: int, entry: bytes) -> bytes:
    """What is published of an entry."""
    return msgpack.packb([header, index, entry])


def read_output_notice(notice: bytes) -> tuple[bytes, int, bytes] | None:
    """Header, index and entry of a notice; None for anything else."""
    try:
        header, index, entry = cast("list[Any]", msgpack.unpackb(notice))
    except (ValueError, TypeError):
        return None
    return (header, index, entry) if (type(header), type(index), type(entry)) == (bytes, int, bytes) else None
