"""What a server pushes to a subscriber, taken apart as it comes, in pieces of any size and without keeping payloads."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["ProtocolError", "PushParser"]

_LINE_END: Final = b"\r\n"
_LONGEST_LINE: Final = 64 * 1024
_MOST_PARTS: Final = 64
_SIZED: Final = b"$=!"
_NESTED: Final = b"*>~"
_LINES: Final = b"+-:_#,("
_MESSAGE: Final = re.compile(rb"[*>]3\r\n\$7\r\nmessage\r\n\$(\d{1,5})\r\n([^\r\n]*)\r\n\$(\d{1,9})\r\n")


class ProtocolError(Exception):
    """These bytes are not the server's protocol: nothing that comes after them can be understood."""


class PushParser:
    """Messages and answers of a subscribed connection, RESP2 and RESP3 alike.

    Each is a list of byte strings: a message is `[b"message", channel, payload]`. Of each string no more than `keep`
    bytes are kept, the rest is dropped as it arrives: so a message of 512 MB costs a reader nothing but the way.
    """

    def __init__(self, keep: int = 256) -> None:
        self._keep = keep
        self._buffer = bytearray()
        self._at = 0
        self._skip = 0
        """Bytes of a string that are still to come and are not kept."""
        self._parts: list[bytes] = []
        self._missing = 0
        """Parts of the message that are still to come; 0 between messages."""

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The messages that are whole with these bytes. Raises Strange."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return []
        self._buffer += data[self._skip :] if self._skip else data
        self._skip = 0
        whole: list[list[bytes]] = []
        while True:
            if not self._parts and not self._missing:
                message = self._take_message()
                if message is not None:
                    whole.append(message)
                    continue
            if not self._take_part():
                break
            if not self._missing:
                whole.append(self._parts)
                self._parts = []
        del self._buffer[: self._at]
        self._at = 0
        return whole

    def _take_message(self) -> list[bytes] | None:
        """A whole published message that begins here, in one go: nearly all that comes is one. None: part by part."""
        head = _MESSAGE.match(self._buffer, self._at)
        if head is None:
            return None
        channel, start = head[2], head.end()
        end = start + int(head[3])
        short = len(channel) == int(head[1]) and max(len(channel), end - start) <= self._keep
        if not short or len(self._buffer) < end + 2:
            return None
        self._at = end + 2
        return [b"message", channel, bytes(self._buffer[start:end])]

    def _take_part(self) -> bool:
        """Take one part, if it is there as far as it is kept; whether it was."""
        end = self._buffer.find(_LINE_END, self._at, self._at + _LONGEST_LINE)
        if end < 0:
            if len(self._buffer) - self._at >= _LONGEST_LINE:
                raise ProtocolError("a line without an end")
            return False
        kind, text = self._buffer[self._at], bytes(self._buffer[self._at + 1 : end])
        if kind in _NESTED:
            count = _number(text)
            if self._missing or not 0 < count <= _MOST_PARTS:
                raise ProtocolError("not a message")
            self._missing = count
            self._at = end + 2
            return self._take_part()
        if kind in _SIZED and text != b"-1":
            return self._take_string(end + 2, _number(text))
        if kind not in _LINES and kind not in _SIZED:
            raise ProtocolError("another kind of reply")
        self._at = end + 2
        self._add(text[: self._keep] if kind != ord("-") else b"-" + text[: self._keep])
        return True

    def _take_string(self, start: int, size: int) -> bool:
        kept = min(size, self._keep)
        there = len(self._buffer) - start
        if there < kept:
            return False
        self._add(bytes(self._buffer[start : start + kept]))
        rest = start + size + 2
        self._at = min(rest, len(self._buffer))
        self._skip = rest - self._at
        return True

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._missing = max(0, self._missing - 1)


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ProtocolError("a length that is none")
    return int(text)
