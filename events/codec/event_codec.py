"""Events and plain data as msgpack bytes, and back; the digest chain over them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from secrets import token_bytes
from typing import Any, Final, cast

import msgpack

from ..errors import CorruptEvent, TooLarge, ValueRefused
from ..model import MEMORY_RESTORED, Limits, PlainData, same_value

__all__ = ["DIGEST_SIZE", "NO_DIGEST", "Codec", "RawEvent", "chain", "to_datetime", "to_microseconds"]

DIGEST_SIZE: Final = 16
NO_DIGEST: Final = bytes(DIGEST_SIZE)
"""The digest before an agent's first event."""

RawEvent = list[Any]
"""A decoded body: type, version, level, time in µs, data, session id, command, causation, correlation, metadata."""

_FIELDS: Final = 10
_begin: Final = sha256().copy  # quicker than to make one anew
_WRAPPING: Final = 4096  # a value that fitted its event must fit the one that restores it, whose wrapping is larger
_DATETIME: Final = 1  # our only ext code; msgpack's own timestamp (-1) would lose the offset
_DATETIME_LAYOUT: Final = struct.Struct(">qi")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT: Final = 1 << 52  # µs in a float, with half a µs to spare: until the year 2112
_MICROSECOND: Final = timedelta(microseconds=1)
# The byte before the code (-1) of a timestamp of msgpack's: of 4, 8, or 12 bytes.
_TIMESTAMP_KINDS: Final = b"\xd6\xd7\x0c"
_FEW: Final = 64
# Seven bits a byte: so it cannot be taken for a part of a timestamp.
_SECRET: Final = int.from_bytes(bytes(byte & 0x7F for byte in token_bytes(7)) + b"\x01", "little")
_BETWEEN: Final = b"\xcf" + _SECRET.to_bytes(8, "big")
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD
# All that msgpack 1.2 was seen to raise on bytes that are not what we wrote.
_DECODE_ERRORS: Final = (ValueError, TypeError, OverflowError, KeyError, RecursionError, struct.error)


def chain(previous: bytes, body: bytes) -> bytes:
    """The digest of an event where no key is used: 16 bytes over the previous event's digest and this event's body."""
    total = _begin()
    total.update(previous + body)
    return total.digest()[:DIGEST_SIZE]


def to_microseconds(time: datetime) -> int:
    """An aware datetime as µs since the epoch (exact: no float in between)."""
    return (time - _EPOCH) // _MICROSECOND


def to_datetime(time: int) -> datetime:
    """µs since the epoch as an aware datetime in UTC."""
    if 0 <= time < _EXACT:
        return datetime.fromtimestamp(time / 1e6, UTC)  # in a quarter of the time
    return _EPOCH + timedelta(microseconds=time)


def _to_extension(value: Any) -> msgpack.ExtType:
    if type(value) is datetime:
        offset = value.utcoffset()
        if offset is not None:
            packed = _DATETIME_LAYOUT.pack(to_microseconds(value), offset // timedelta(seconds=1))
            return msgpack.ExtType(_DATETIME, packed)
    raise ValueRefused(f"a {type(value).__name__} is not plain data; convert it before it is written")


def _from_extension(code: int, data: bytes) -> datetime:
    if code != _DATETIME:
        raise ValueError(f"unknown extension {code}")
    time, offset = _DATETIME_LAYOUT.unpack(data)
    zone = timezone(timedelta(seconds=offset)) if offset else UTC
    return to_datetime(time).astimezone(zone)


class Codec:
    """Packs and unpacks plain data. Not thread-safe: each thread that runs agents has its own.

    A reused packer takes 0.34 µs for a 121-byte event, `msgpack.packb` 0.58 µs (shared measurements of this design).
    """

    __slots__ = ("_event_bytes", "_limits", "_pack")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._event_bytes = limits.event_bytes
        # Strict types send subclasses, tuples and enums to `_to_extension`, which refuses them.
        packer = msgpack.Packer(default=_to_extension, strict_types=True, use_bin_type=True)
        self._pack = cast("Callable[[Any], bytes]", packer.pack)

    def pack(self, value: Any) -> bytes:
        """Bytes of plain data. Raises ValueRefused for what msgpack cannot hold."""
        try:
            return self._pack(value)
        except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
            raise _refused(error) from None

    def unpack(self, data: bytes) -> Any:
        """Plain data from bytes. Raises CorruptEvent for anything that is not one whole msgpack value of ours."""
        value = _unpack(data)
        if _may_hold_timestamp(data) and _holds_timestamp(value):
            raise CorruptEvent(f"{len(data)} stored bytes hold a timestamp of msgpack's, which duramen never writes")
        return value

    def encode(self, event: RawEvent) -> tuple[bytes, dict[str, Any]]:
        """Body of an event whose data was checked, and the data as it will be read back: a copy nobody else holds.

        Scalars are written as what they are, or refused by the packer; anything else is read back to see. Raises
        ValueRefused if reading back would give anything else, TooLarge over `Limits.event_bytes`.
        """
        try:
            body = self._pack(event)
        except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
            raise _refused(error) from None
        if len(body) > self._event_bytes and (event[0] != MEMORY_RESTORED or len(body) > self._event_bytes + _WRAPPING):
            raise TooLarge(
                f"an event of {len(body)} bytes is over the limit of {self._limits.event_bytes}; "
                "split it, or store the content elsewhere and record where",
                expected=self._limits.event_bytes,
                actual=len(body),
            )
        data: dict[str, Any] = event[4]
        for key, value in data.items():
            if type(key) is not str or type(value) not in _SCALARS:
                break
        else:
            if event[9] is None:
                return body, data.copy()
        try:
            decoded: Any = msgpack.unpackb(body, ext_hook=_from_extension)
        except _DECODE_ERRORS:
            decoded = None
        # The C comparison settles nearly all; NaN differs from itself and needs the strict one.
        return body, (decoded if decoded == event else self._read_back(body, event))[4]

    def _read_back(self, body: bytes, event: RawEvent) -> RawEvent:
        try:
            decoded = _unpack(body)
        except CorruptEvent:
            raise ValueRefused(
                "the event's values could not be read back; use plain data with text keys only"
            ) from None
        if not same_value(decoded, cast("PlainData", event)):
            raise ValueRefused("the event's values would not be read back equal; use plain data only")
        return cast("RawEvent", decoded)

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

    def decode_all(self, bodies: Sequence[bytes]) -> list[RawEvent] | None:
        """As `decode` of each, at a third of its cost; None where one of them has to be looked at by itself.

        Takes no more bytes together than one event may have, so that what they decode to is bounded as well.
        """
        joined = _BETWEEN.join(bodies)
        between = len(bodies) - 1
        if between < 0:
            return []
        if len(joined) - len(_BETWEEN) * between > self._limits.event_bytes or _may_hold_timestamp(joined):
            return None
        try:
            values: list[Any] = msgpack.unpackb(
                _ARRAY.pack(_ARRAY_32, 2 * between + 1) + joined,
                raw=False,
                strict_map_key=True,
                ext_hook=_from_extension,
            )
        except _DECODE_ERRORS:
            return None
        # Where each body is one value, they and what stands between them alternate. No body holds that: it is a secret.
        if values[1::2].count(_SECRET) != between:
            return None
        events: list[RawEvent] = values[::2]
        sound = {*map(type, events)} <= {list} and {*map(len, events)} <= {_FIELDS}
        return events if sound else None

    def copy(self, value: Any) -> Any:
        """A copy of plain data that shares no container with it."""
        if type(value) in _CONTAINERS:
            return self.unpack(self.pack(value))
        return value


def _refused(error: Exception) -> ValueRefused:
    if isinstance(error, ValueRefused):
        return error
    return ValueRefused(f"not storable as msgpack: {type(error).__name__}")


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_from_extension)
    except _DECODE_ERRORS as error:
        raise CorruptEvent(
            f"{len(data)} stored bytes do not decode ({type(error).__name__}); restore them from a backup"
        ) from None


def _may_hold_timestamp(data: bytes) -> bool:
    """Whether bytes of one of msgpack's own are there, which never come to `ext_hook`. Ours seldom have such bytes."""
    # To look at the few places of one byte takes a fifth of the time of searching for three sequences.
    at = 0
    for _ in range(_FEW):
        at = data.find(b"\xff", at + 1)
        if at < 0:
            return False
        if data[at - 1] in _TIMESTAMP_KINDS:
            break
    return b"\xd6\xff" in data or b"\xd7\xff" in data or b"\xc7\x0c\xff" in data


def _holds_timestamp(value: Any) -> bool:
    if type(value) is dict:
        return any(_holds_timestamp(held) for held in cast("dict[Any, Any]", value).values())
    if type(value) is list:
        return any(_holds_timestamp(held) for held in cast("list[Any]", value))
    return type(value) is msgpack.Timestamp


_CONTAINERS: Final = frozenset((dict, list))
_SCALARS: Final = frozenset((str, int, float, bool, bytes, type(None)))
