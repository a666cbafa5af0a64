"""The position of a reader of many agents, from which it continues exactly, or learns that it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from attrs import field, frozen

import msgpack

from ..errors import InvalidMessage

_FORMAT: Final = 1
_FORM: Final = (int, int, str, int, bytes)


@frozen
class Mark:
    """A reader's position in the feed of one partition.

    The reader has processed the first `position` appends, and `offset` events of the next one. `agent`, `seq` and
    `digest` are those of the last event it read: if the log has another event there, its history was replaced.
    """

    position: int = 0
    offset: int = 0
    agent: str = ""
    seq: int = 0
    digest: bytes = b""


START: Final = Mark()


@frozen
class Cursor:
    """A reader's position in all partitions it reads, and the log's identity. Opaque: store it as text or bytes."""

    log: str
    """Identity of the log."""
    marks: Mapping[int, Mark] = field(factory=dict[int, Mark])
    """By partition; without a mark, the reader is at the start."""

    def to_bytes(self) -> bytes:
        """Return bytes for `from_bytes`, to store anywhere."""
        rows = {
            str(partition): [mark.position, mark.offset, mark.agent, mark.seq, mark.digest]
            for partition, mark in self.marks.items()
        }
        return msgpack.packb([_FORMAT, self.log, rows])

    def to_text(self) -> str:
        """Return the bytes in hexadecimal, for files and screens."""
        return self.to_bytes().hex()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Cursor:
        """Read the result of `to_bytes`. Raises InvalidMessage for other bytes."""
        try:
            form, log, rows = cast("list[Any]", msgpack.unpackb(stored, strict_map_key=True))
            marks = {int(partition): _parse_mark(row) for partition, row in rows.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidMessage(f"these bytes are no cursor ({type(error).__name__})") from None
        if form != _FORMAT or type(log) is not str:
            raise InvalidMessage("this cursor has another format: it was made by another version of duramen")
        return cls(log, marks)

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Read the result of `to_text`. Raises InvalidMessage for other text."""
        try:
            stored = bytes.fromhex(text)
        except (ValueError, TypeError):
            raise InvalidMessage("this text is no cursor: it is not hexadecimal") from None
        return cls.from_bytes(stored)


def _parse_mark(row: list[Any]) -> Mark:
    is_well_formed = len(row) == len(_FORM) and all(type(part) is kind for part, kind in zip(row, _FORM, strict=True))
    if not is_well_formed or min(row[0], row[1], row[3]) < 0:
        raise ValueError("mark")
    return Mark(*row)
