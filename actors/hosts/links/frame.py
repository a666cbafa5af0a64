"""Frames: rows between two hosts as authenticated bytes.

A frame is msgpack of `[protocol, from, to, number, heard, rows]`, then 16 bytes of keyed BLAKE2b over it. Who may
publish on a host's channel does not know the key, and so cannot command its agents.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct
from typing import Any, Final, cast

from attrs import frozen

import msgpack
from duramen.events import CorruptEvent
from duramen.events.codec import Codec

Row = list[Any]
"""Plain data, as the codec of events packs it. Links do not look into it."""

CONTROL: Final = 0
"""The number of frames outside the stream: they carry `heard` alone, or a question."""
FRAME_BYTES: Final = 64 * 1024
"""The most bytes of rows in one frame. A larger row stands in a key, and its frame names the key."""
ROW_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of one row."""

_TAG_SIZE: Final = 16
_ID_SIZE: Final = 16
_MOST_BYTES: Final = FRAME_BYTES + 1024
_FIELDS: Final = 6
_FRAME_OF_SIX: Final = 0x96
_FRAME_START: Final = bytes([_FRAME_OF_SIX])
_SHORT_ARRAY: Final = 0x90
_LONG_ARRAY: Final = Struct(">BI")
_LONG_NUMBER: Final = Struct(">BQ")
_MOST_PEERS: Final = 1_000
_LONGEST_HOST: Final = 128
_LARGEST: Final = 2**63 - 1


@frozen
class Frame:
    """A frame that is authentic and addressed to this host.

    Each element of `rows` is a row, or the id of content that holds one packed row.
    """

    sender: str
    number: int
    heard: int
    rows: list[Row | str]

    @property
    def has_contents(self) -> bool:
        """Whether a row stands in a key."""
        return str in map(type, self.rows)

    @property
    def content_ids(self) -> list[str]:
        return [row for row in self.rows if type(row) is str]


class FrameCodec:
    """Makes and checks the frames of one host. Only `open` and `open_content` may not be called by several threads.

    `dropped` counts refused messages by reason: `malformed`, `protocol` (another version), `forged` (another key),
    `misdirected` (to another host).
    """

    def __init__(self, host: str, secret: bytes, protocol: int, codec: Codec) -> None:
        self.host = host
        self._codec = codec
        self._key = blake2b(secret, digest_size=32, person=b"duramen frames").digest()
        self._protocol = _FRAME_START + msgpack.packb(protocol)
        self._start = self._protocol + msgpack.packb(host)
        self._packed_peers: dict[str, bytes] = {}
        self.dropped: Counter[str] = Counter()

    def seal(self, peer: str, number: int, heard: int, rows: list[bytes]) -> bytes:
        """Return a frame of rows that are packed already."""
        count = bytes((_SHORT_ARRAY | len(rows),)) if len(rows) < 16 else _LONG_ARRAY.pack(0xDD, len(rows))
        packed_peer = self._packed_peers.get(peer)
        if packed_peer is None:
            if len(self._packed_peers) >= _MOST_PEERS:
                self._packed_peers = {}
            packed_peer = self._packed_peers[peer] = msgpack.packb(peer)
        body = b"".join((self._start, packed_peer, _pack_number(number), _pack_number(heard), count, *rows))
        return body + self._tag(body)

    def open(self, data: bytes) -> Frame | None:
        """Return the frame; None, and count it, if it is not an authentic one to this host. Never raises."""
        reason, frame = self._open(data)
        if reason:
            self.dropped[reason] += 1
        return frame

    def content_id(self, content: bytes) -> str:
        """Return the id of a packed row: a digest that only hosts of this namespace can make."""
        return blake2b(content, digest_size=_ID_SIZE, key=self._key, person=b"duramen content").hexdigest()

    def open_content(self, content_id: str, content: bytes | None) -> Row | None:
        """Return the row in the content of this id; None if it is missing, or is not what was stored."""
        if content is None:
            return None
        if len(content) > ROW_BYTES or not compare_digest(self.content_id(content).encode(), content_id.encode()):
            self.dropped["forged"] += 1
            return None
        try:
            row: Any = self._codec.unpack(content)
        except CorruptEvent:
            return None
        return cast("Row", row) if type(row) is list else None

    def _open(self, data: bytes) -> tuple[str, Frame | None]:
        if not _TAG_SIZE < len(data) <= _MOST_BYTES or data[0] != _FRAME_OF_SIX:
            return "malformed", None
        body = data[:-_TAG_SIZE]
        if not compare_digest(self._tag(body), data[-_TAG_SIZE:]):
            return "forged", None
        if not body.startswith(self._protocol):
            return "protocol", None
        try:
            fields: Any = self._codec.unpack(body)
        except CorruptEvent:
            return "malformed", None
        if type(fields) is not list or not _are_fields(cast("list[Any]", fields)):
            return "malformed", None
        _, sender, to, number, heard, rows = cast("list[Any]", fields)
        if to != self.host or sender == self.host:
            return "misdirected", None
        return "", Frame(sender, number, heard, rows)

    def _tag(self, body: bytes) -> bytes:
        return blake2b(body, digest_size=_TAG_SIZE, key=self._key).digest()


def _pack_number(number: int) -> bytes:
    """Pack a number from 0 on as msgpack, without making a packer for it."""
    return bytes((number,)) if number < 0x80 else _LONG_NUMBER.pack(0xCF, number)


def _are_fields(fields: list[Any]) -> bool:
    if len(fields) != _FIELDS:
        return False
    _, sender, to, number, heard, rows = fields
    named = type(sender) is str and type(to) is str and 0 < len(sender) <= _LONGEST_HOST
    counted = type(number) is int and type(heard) is int and 0 <= number <= _LARGEST and 0 <= heard <= _LARGEST
    return named and counted and type(rows) is list and {*map(type, cast("list[Any]", rows))} <= {list, str}
