"""A session as a file: framed records in one gzip stream, with a sum over all of them at the end.

docs/reference/session-file.md describes the format.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from hashlib import sha256
from typing import IO, Any, Final, cast

from ..errors import CorruptEvent, InvalidMessage
from ..model import Limits
from .event_codec import Codec

__all__ = ["FORMAT", "SessionReader", "SessionWriter"]

FORMAT: Final = 1
_MAGIC: Final = b"duramen session\n"
_LENGTH: Final = 4
_MOST: Final = 64 * 1024 * 1024
_COMPRESSION: Final = 6
_LOST: Final = (EOFError, zlib.error, gzip.BadGzipFile)


class SessionWriter:
    """Writes records to a file that is open for bytes. Nothing is whole before `finish`."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._codec = Codec(limits)
        # No time and no name: the same session gives the same bytes.
        self._stream = gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0)
        self._sum = sha256()
        self._put(_MAGIC)

    def write(self, kind: str, *fields: Any) -> None:
        """One record: its kind, and plain data."""
        body = self._codec.pack([kind, *fields])
        if len(body) > _MOST:
            raise InvalidMessage(f"a record of {len(body)} bytes is over what a session file takes", expected=_MOST)
        self._put(len(body).to_bytes(_LENGTH))
        self._put(body)

    def finish(self) -> None:
        """The sum over everything, and the end."""
        self.write("end", self._sum.digest())
        self._stream.close()

    def _put(self, data: bytes) -> None:
        self._sum.update(data)
        self._stream.write(data)


class SessionReader:
    """Reads the records of a file, one after another, in bounded memory.

    Raises CorruptEvent for what is damaged or cut, InvalidMessage for what is no session file, or one of a newer
    format. Only what was read to its end is whole.
    """

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._codec = Codec(limits)
        self._stream = gzip.GzipFile("", "rb", fileobj=file)
        self._sum = sha256()

    def records(self) -> Iterator[tuple[str, list[Any]]]:
        """Kind and fields of each record, without the end, which is checked."""
        try:
            magic = self._stream.read(len(_MAGIC))
        except (*_LOST, OSError):
            magic = b""
        if magic != _MAGIC:
            raise InvalidMessage("this is no session file of duramen's")
        self._sum.update(magic)
        while True:
            expected = self._sum.digest()
            kind, fields = self._record()
            if kind != "end":
                yield kind, fields
                continue
            if fields != [expected]:
                raise _damaged("its sum does not fit")
            if self._take(1, exactly=False):
                raise _damaged("something stands behind its end")
            return

    def _record(self) -> tuple[str, list[Any]]:
        length = int.from_bytes(self._take(_LENGTH))
        if length > _MOST:
            raise _damaged("a record is larger than any that is written")
        try:
            record = self._codec.unpack(self._take(length))
        except CorruptEvent:
            raise _damaged("a record does not decode") from None
        if type(record) is list and record:
            kind, *fields = cast("list[Any]", record)
            if type(kind) is str:
                return kind, fields
        raise _damaged("a record has another form")

    def _take(self, size: int, *, exactly: bool = True) -> bytes:
        found = b""
        try:
            while len(found) < size and (part := self._stream.read(size - len(found))):
                found += part
        except _LOST as error:
            raise _damaged(type(error).__name__) from None
        if exactly and len(found) < size:
            raise _damaged("it ends early")
        self._sum.update(found)
        return found


def _damaged(why: str) -> CorruptEvent:
    return CorruptEvent(f"this session file is damaged ({why}); get another copy, or export it again")
