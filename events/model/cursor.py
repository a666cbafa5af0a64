"""Where a reader of many agents stands, so that it can go on exactly there, or is told that it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from attrs import field, frozen

import msgpack

from ..errors import InvalidMessage

__all__ = ["START", "Cursor", "Mark"]

_FORMAT: Final = 1
_FORM: Final = (int, int, str, int, bytes)


@frozen
class Mark:
    """A reader's place in the feed of one partition.

    It has done with the first `position` appends, and with `offset` events of the one behind them. `agent`, `seq` and
    `digest` are those of the last event it looked at: if the log has another there, it is not the same log any more.
    """

    position: int = 0
    offset: int = 0
    agent: str = ""
    seq: int = 0
    digest: bytes = b""


START: Final = Mark()


@frozen
class Cursor:
    """A reader's place in all partitions it reads, and which log that is. Opaque: keep it as text or bytes."""

    log: str
    """Identity of the log."""
    marks: Mapping[int, Mark] = field(factory=dict[int, Mark])
    """By partition; none means the start."""

    def to_bytes(self) -> bytes:
        """To be kept anywhere, and given to `from_bytes`."""
        rows = {
            str(partition): [mark.position, mark.offset, mark.agent, mark.seq, mark.digest]
            for partition, mark in self.marks.items()
        }
        return msgpack.packb([_FORMAT, self.log, rows])

    def to_text(self) -> str:
        """As `to_bytes`, in hex, for files and screens."""
        return self.to_bytes().hex()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Cursor:
        """Raises InvalidMessage for what `to_bytes` has not made."""
        try:
            form, log, rows = cast("list[Any]", msgpack.unpackb(stored, strict_map_key=True))
            marks = {int(partition): _mark(row) for partition, row in rows.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidMessage(f"these bytes are no cursor ({type(error).__name__})") from None
        if form != _FORMAT or type(log) is not str:
            raise InvalidMessage("this cursor has another format: it was made by another version of duramen")
        return cls(log, marks)

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Raises InvalidMessage for what `to_text` has not made."""
        try:
            stored = bytes.fromhex(text)
        except (ValueError, TypeError):
            raise InvalidMessage("this text is no cursor: it is not hexadecimal") from None
        return cls.from_bytes(stored)


def _mark(row: list[Any]) -> Mark:
    as_written = len(row) == len(_FORM) and all(type(part) is kind for part, kind in zip(row, _FORM, strict=True))
    if not as_written or min(row[0], row[1], row[3]) < 0:
        raise ValueError("mark")
    return Mark(*row)
