"""Agents whose lines in the directory have some metadata: few of many are looked at in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ..client import RedisClient

_COUNT: Final = b"1024"
"""Lines of a partition that the server is asked for at a time."""
_AT_ONCE: Final = 16
"""Partitions that are read with one exchange."""
_NO_METADATA: Final = b"\xc0"
_WHOLE: Final = b"\x95"

Lines = list[tuple[bytes, bytes]]
"""Agents and their lines."""


class LineScan:
    """Reads directories, and keeps the lines that may have metadata of these bytes.

    `parts` are packed keys and values as they stand in a line. A line without metadata may have any: it was written by
    older code, or they are too large for it.
    """

    def __init__(self, server: RedisClient, key_of: Callable[[int], str], parts: Sequence[bytes]) -> None:
        self._server = server
        self._key_of = key_of
        self._parts = parts

    def pages(self, partitions: Sequence[int]) -> Iterator[list[tuple[int, Lines]]]:
        """The lines that are kept, by partition; a line that changes meanwhile may come twice."""
        if self._server.nodes is not None:  # a cluster: a cursor means something to one node alone
            for partition in partitions:
                for page in self._server.scan_hash(self._key_of(partition), "list agents"):
                    yield [(partition, [item for item in page.items() if self._may_have(item[1])])]
            return
        for at in range(0, len(partitions), _AT_ONCE):
            yield from self._pages(dict.fromkeys(partitions[at : at + _AT_ONCE], b"0"))

    def _pages(self, cursors: dict[int, bytes]) -> Iterator[list[tuple[int, Lines]]]:
        while cursors:
            commands = [
                (b"HSCAN", self._key_of(partition).encode(), cursor, b"COUNT", _COUNT)
                for partition, cursor in cursors.items()
            ]
            replies = self._server.execute_all("list agents", commands)
            found: list[tuple[int, Lines]] = []
            for partition, (cursor, fields) in zip(list(cursors), replies, strict=True):
                pairs = zip(fields[::2], fields[1::2], strict=True)
                found.append((partition, [(agent, line) for agent, line in pairs if self._may_have(line)]))
                if cursor == b"0":
                    del cursors[partition]
                else:
                    cursors[partition] = cursor
            yield found

    def _may_have(self, line: bytes) -> bool:
        if line[:1] != _WHOLE or line[-1:] == _NO_METADATA:
            return True
        return all(part in line for part in self._parts)
