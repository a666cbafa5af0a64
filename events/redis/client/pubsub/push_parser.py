"""A parser of the messages that a server pushes to a subscriber, fed in pieces of any size."""

from __future__ import annotations

import re
from typing import Final

_LINE_END: Final = b"\r\n"
_LONGEST_LINE: Final = 64 * 1024
_MOST_PARTS: Final = 64
_SIZED: Final = b"$=!"
_NESTED: Final = b"*>~"
_LINES: Final = b"+-:_#,("
_MESSAGE: Final = re.compile(rb"[*>]3\r\n\$[78]\r\n(s?message)\r\n\$(\d{1,5})\r\n([^\r\n]*)\r\n\$(\d{1,9})\r\n")


class ProtocolError(Exception):
    """The bytes are not the server's protocol; the bytes after them cannot be parsed."""


class PushParser:
    """Parses messages and replies of a subscribed connection, in RESP2 and RESP3.

    Each is a list of byte strings: a message is `[b"message", channel, payload]`, or `b"smessage"` in a cluster. Of
    each string only the first `keep` bytes are kept and the others are dropped as they arrive, so a message of 512 MB
    takes no memory.
    """

    def __init__(self, keep: int = 256) -> None:
        self._keep = keep
        self._buffer = bytearray()
        self._at = 0
        self._skip = 0
        """Bytes of the current string that have yet to arrive and will be dropped."""
        self._parts: list[bytes] = []
        self._missing = 0
        """Parts of the current message that have yet to arrive; 0 between messages."""

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Return the messages that these bytes complete. Raises ProtocolError."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return []
        self._buffer += data[self._skip :] if self._skip else data
        self._skip = 0
        whole: list[list[bytes]] = []
        while True:
            if not self._parts and not self._missing:
                message = self._parse_message()
                if message is not None:
                    whole.append(message)
                    continue
            if not self._parse_part():
                break
            if not self._missing:
                whole.append(self._parts)
                self._parts = []
        del self._buffer[: self._at]
        self._at = 0
        return whole

    def _parse_message(self) -> list[bytes] | None:
        """Parse a whole published message at once, as nearly all are; None if it has to be parsed part by part."""
        head = _MESSAGE.match(self._buffer, self._at)
        if head is None:
            return None
        channel, start = head[3], head.end()
        end = start + int(head[4])
        short = len(channel) == int(head[2]) and max(len(channel), end - start) <= self._keep
        if not short or len(self._buffer) < end + 2:
            return None
        self._at = end + 2
        return [head[1], channel, bytes(self._buffer[start:end])]

    def _parse_part(self) -> bool:
        """Parse one part; False if the bytes to keep of it have not all arrived."""
        end = self._buffer.find(_LINE_END, self._at, self._at + _LONGEST_LINE)
        if end < 0:
            if len(self._buffer) - self._at >= _LONGEST_LINE:
                raise ProtocolError("a line without an end")
            return False
        kind, text = self._buffer[self._at], bytes(self._buffer[self._at + 1 : end])
        if kind in _NESTED:
            count = _parse_length(text)
            if self._missing or not 0 < count <= _MOST_PARTS:
                raise ProtocolError("not a message")
            self._missing = count
            self._at = end + 2
            return self._parse_part()
        if kind in _SIZED and text != b"-1":
            return self._parse_string(end + 2, _parse_length(text))
        if kind not in _LINES and kind not in _SIZED:
            raise ProtocolError("another kind of reply")
        self._at = end + 2
        self._add_part(text[: self._keep] if kind != ord("-") else b"-" + text[: self._keep])
        return True

    def _parse_string(self, start: int, size: int) -> bool:
        kept = min(size, self._keep)
        if len(self._buffer) - start < kept:
            return False
        self._add_part(bytes(self._buffer[start : start + kept]))
        end = start + size + 2
        self._at = min(end, len(self._buffer))
        self._skip = end - self._at
        return True

    def _add_part(self, part: bytes) -> None:
        self._parts.append(part)
        self._missing = max(0, self._missing - 1)


def _parse_length(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ProtocolError("not a length")
    return int(text)
