"""Session files: framed records in one gzip stream, with a checksum over all of them at the end.

docs/reference/session-file.md describes the format.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import IO, Any, Final, Self, cast

from ..errors import CorruptEvent, InvalidMessage
from ..model import Limits
from .event_codec import Codec

FORMAT: Final = 1
_MAGIC: Final = b"duramen session\n"
_LENGTH: Final = 4
_MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
_COMPRESSION: Final = 6
_STREAM_ERRORS: Final = (EOFError, zlib.error, gzip.BadGzipFile)


class SessionWriter:
    """Writes records to a binary file, in a `with` block. The file is incomplete before `finish`."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._codec = Codec(limits)
        # Without time and name, so that the same session gives the same bytes.
        self._stream = gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0)
        self._checksum = sha256()
        self._write(_MAGIC)

    def write(self, kind: str, *fields: Any) -> None:
        """Write one record: its kind, and plain data."""
        body = self._codec.pack([kind, *fields])
        if len(body) > _MAX_RECORD_BYTES:
            raise InvalidMessage(
                f"a record of {len(body)} bytes is over what a session file takes", expected=_MAX_RECORD_BYTES
            )
        self._write(len(body).to_bytes(_LENGTH))
        self._write(body)

    def finish(self) -> None:
        """Write the checksum and end the stream."""
        self.write("end", self._checksum.digest())
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Of an unfinished file too, since a stream that is left open is flushed, and complains, when it is collected.
        with suppress(OSError, ValueError):  # the file may be full, or closed
            self._stream.close()

    def _write(self, data: bytes) -> None:
        self._checksum.update(data)
        self._stream.write(data)


class SessionReader:
    """Reads the records of a file, one after another, in bounded memory.

    Raises CorruptEvent for a damaged or truncated file, InvalidMessage for a file that is not a session file. A file
    is known to be whole only when it was read to its end.
    """

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._codec = Codec(limits)
        self._stream = gzip.GzipFile("", "rb", fileobj=file)
        self._checksum = sha256()

    def records(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield kind and fields of each record; the end record is checked, not yielded."""
        try:
            magic = self._stream.read(len(_MAGIC))
        except (*_STREAM_ERRORS, OSError):
            magic = b""
        if magic != _MAGIC:
            raise InvalidMessage("this is no session file of duramen's")
        self._checksum.update(magic)
        while True:
            expected = self._checksum.digest()
            kind, fields = self._read_record()
            if kind != "end":
                yield kind, fields
                continue
            if fields != [expected]:
                raise _damaged("its checksum does not match")
            if self._read(1, exactly=False):
                raise _damaged("bytes follow its end")
            return

    def _read_record(self) -> tuple[str, list[Any]]:
        length = int.from_bytes(self._read(_LENGTH))
        if length > _MAX_RECORD_BYTES:
            raise _damaged("a record is larger than any that is written")
        try:
            record = self._codec.unpack(self._read(length))
        except CorruptEvent:
            raise _damaged("a record does not decode") from None
        if type(record) is list and record:
            kind, *fields = cast("list[Any]", record)
            if type(kind) is str:
                return kind, fields
        raise _damaged("a record has another form")

    def _read(self, size: int, *, exactly: bool = True) -> bytes:
        found = b""
        try:
            while len(found) < size and (part := self._stream.read(size - len(found))):
                found += part
        except _STREAM_ERRORS as error:
            raise _damaged(type(error).__name__) from None
        if exactly and len(found) < size:
            raise _damaged("it ends early")
        self._checksum.update(found)
        return found


def _damaged(why: str) -> CorruptEvent:
    return CorruptEvent(f"this session file is damaged ({why}); get another copy, or export it again")
