"""Events and plain data as msgpack bytes, and back; the digest chain over them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, Final, cast

import msgpack

from .errors import CorruptEvent, TooLarge, ValueRefused
from .limits import Limits
from .values import PlainData, same_value
from .vocabulary import MEMORY_RESTORED

__all__ = ["DIGEST_SIZE", "NO_DIGEST", "Codec", "RawEvent", "chain", "instant", "microseconds"]

DIGEST_SIZE: Final = 16
NO_DIGEST: Final = bytes(DIGEST_SIZE)
"""The digest before an agent's first event."""

RawEvent = list[Any]
"""A decoded body: type, version, level, time in µs, data, session id, command, causation, correlation, metadata."""

_FIELDS: Final = 10
_WRAPPING: Final = 4096  # a value that fitted its event must fit the one that restores it, whose wrapping is larger
_DATETIME: Final = 1  # our only ext code; msgpack's own timestamp (-1) would lose the offset
_DATETIME_LAYOUT: Final = struct.Struct(">qi")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# All that msgpack 1.2 was seen to raise on bytes that are not what we wrote.
_DECODE_ERRORS: Final = (ValueError, TypeError, OverflowError, KeyError, RecursionError, struct.error)


def chain(previous: bytes, body: bytes) -> bytes:
    """The digest of an event: 16 bytes over the previous event's digest and this event's body."""
    return sha256(previous + body).digest()[:DIGEST_SIZE]


def microseconds(time: datetime) -> int:
    """An aware datetime as µs since the epoch (exact: no float in between)."""
    return (time - _EPOCH) // _MICROSECOND


def instant(time: int) -> datetime:
    """µs since the epoch as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=time)


def _to_extension(value: Any) -> msgpack.ExtType:
    if type(value) is datetime:
        offset = value.utcoffset()
        if offset is not None:
            packed = _DATETIME_LAYOUT.pack(microseconds(value), offset // timedelta(seconds=1))
            return msgpack.ExtType(_DATETIME, packed)
    raise ValueRefused(f"a {type(value).__name__} is not plain data; convert it before it is written")


def _from_extension(code: int, data: bytes) -> datetime:
    if code != _DATETIME:
        raise ValueError(f"unknown extension {code}")
    time, offset = _DATETIME_LAYOUT.unpack(data)
    zone = timezone(timedelta(seconds=offset)) if offset else UTC
    return instant(time).astimezone(zone)


class Codec:
    """Packs and unpacks plain data. Not thread-safe: each thread that runs agents has its own.

    A reused packer takes 0.34 µs for a 121-byte event, `msgpack.packb` 0.58 µs (shared measurements of this design).
    """

    __slots__ = ("_limits", "_pack")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Strict types send subclasses, tuples and enums to `_to_extension`, which refuses them.
        packer = msgpack.Packer(default=_to_extension, strict_types=True, use_bin_type=True)
        self._pack = cast("Callable[[Any], bytes]", packer.pack)

    def pack(self, value: Any) -> bytes:
        """Bytes of plain data. Raises ValueRefused for what msgpack cannot hold."""
        try:
            return self._pack(value)
        except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
            if isinstance(error, ValueRefused):
                raise
            raise ValueRefused(f"not storable as msgpack: {type(error).__name__}") from None

    def unpack(self, data: bytes) -> Any:
        """Plain data from bytes. Raises CorruptEvent for anything that is not one whole msgpack value of ours."""
        value = _unpack(data)
        # msgpack's own timestamps never come to `ext_hook`. These bytes seldom stand in what we wrote.
        suspicious = b"\xd6\xff" in data or b"\xd7\xff" in data or b"\xc7\x0c\xff" in data
        if suspicious and _holds_timestamp(value):
            raise CorruptEvent(f"{len(data)} stored bytes hold a timestamp of msgpack's, which duramen never writes")
        return value

    def encode(self, event: RawEvent) -> tuple[bytes, dict[str, Any]]:
        """Body of an event whose data was checked, and the data as it will be read back: a copy nobody else holds.

        Raises ValueRefused if reading back would give anything else, TooLarge over `Limits.event_bytes`.
        """
        body = self.pack(event)
        most = self._limits.event_bytes + (_WRAPPING if event[0] == MEMORY_RESTORED else 0)
        if len(body) > most:
            raise TooLarge(
                f"an event of {len(body)} bytes is over the limit of {self._limits.event_bytes}; "
                "split it, or store the content elsewhere and record where",
                expected=self._limits.event_bytes,
                actual=len(body),
            )
        try:
            decoded = _unpack(body)
        except CorruptEvent:
            raise ValueRefused(
                "the event's values could not be read back; use plain data with text keys only"
            ) from None
        # The C comparison settles nearly all; NaN differs from itself and needs the strict one.
        if decoded != event and not same_value(decoded, cast("PlainData", event)):
            raise ValueRefused("the event's values would not be read back equal; use plain data only")
        return body, decoded[4]

    def decode(self, body: bytes) -> RawEvent:
        """Raw fields of a stored body. Raises CorruptEvent if it is not one of ours."""
        most = self._limits.event_bytes + _WRAPPING
        if len(body) > most:
            raise CorruptEvent(
                f"a stored event of {len(body)} bytes is over the limit of {most}",
                expected=most,
                actual=len(body),
            )
        event: RawEvent = self.unpack(body)
        if type(event) is not list or len(event) != _FIELDS:
            raise CorruptEvent("a stored event has not the form of one; restore the log from a backup")
        return event

    def copy(self, value: Any) -> Any:
        """A copy of plain data that shares no container with it."""
        if type(value) in _CONTAINERS:
            return self.unpack(self.pack(value))
        return value


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_from_extension)
    except _DECODE_ERRORS as error:
        raise CorruptEvent(
            f"{len(data)} stored bytes do not decode ({type(error).__name__}); restore them from a backup"
        ) from None


def _holds_timestamp(value: Any) -> bool:
    if type(value) is dict:
        return any(_holds_timestamp(held) for held in cast("dict[Any, Any]", value).values())
    if type(value) is list:
        return any(_holds_timestamp(held) for held in cast("list[Any]", value))
    return type(value) is msgpack.Timestamp


_CONTAINERS: Final = frozenset((dict, list))
