"""Events and plain data as msgpack bytes, and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from secrets import token_bytes
from typing import Any, Final, cast

import msgpack

from ..errors import CorruptEvent, TooLarge, ValueRefused
from ..model import (
    MEMORY_RESTORED,
    ZONE_NAME,
    Content,
    Limits,
    PlainData,
    StoredContent,
    WithContents,
    check_value,
    contents_in,
    datetime_problem,
    make_refusal,
    same_value,
    zone_name,
)

DIGEST_SIZE: Final = 16
NO_DIGEST: Final = bytes(DIGEST_SIZE)
"""The digest before an agent's first event."""

RawEvent = list[Any]
"""A decoded body: type, version, level, time in µs, data, session id, command, causation, correlation, metadata."""

_FIELDS: Final = 10
_new_hash: Final = sha256().copy  # a copy is quicker than a new hash
_WRAPPING: Final = 4096  # bytes; an event that restores a value is larger than the event that set it
# Our extension codes; msgpack's own timestamp (-1) has no offset.
_DATETIME: Final = 1
_ZONED: Final = 2
"""A datetime that its zone has twice or never. Python takes none with a fixed offset for equal to it."""
_CONTENT: Final = 3
_STORED: Final = 4
"""Content in a message, that was stored for the agent it goes to; never in an event."""
_CONTENT_LAYOUT: Final = struct.Struct(">Q?32s")
CONTENT_MARK: Final = bytes((0xC7, _CONTENT_LAYOUT.size, _CONTENT))
"""How packed content begins. Other bytes may be the same: those without it hold none."""
_DATETIME_LAYOUT: Final = struct.Struct(">qi")
_DATETIME_SIZE: Final = _DATETIME_LAYOUT.size
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT: Final = 1 << 52  # µs in a float, with half a µs to spare: until the year 2112
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = timedelta(seconds=1)
# The byte before the code (-1) of msgpack's timestamps of 4, 8, and 12 bytes.
_TIMESTAMP_KINDS: Final = b"\xd6\xd7\x0c"
_MAX_PROBES: Final = 64
# Seven bits a byte, so that it cannot look like part of a timestamp.
_SEPARATOR_VALUE: Final = int.from_bytes(bytes(byte & 0x7F for byte in token_bytes(7)) + b"\x01", "little")
_SEPARATOR: Final = b"\xcf" + _SEPARATOR_VALUE.to_bytes(8, "big")
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD
# All errors that msgpack 1.2 was seen to raise on bytes that we did not write.
_DECODE_ERRORS: Final = (ValueError, TypeError, OverflowError, KeyError, IndexError, RecursionError, struct.error)


def chain(previous: bytes, body: bytes) -> bytes:
    """Return the digest of an event without a key: 16 bytes over the previous digest and this event's body."""
    total = _new_hash()
    total.update(previous + body)
    return total.digest()[:DIGEST_SIZE]


def to_microseconds(time: datetime) -> int:
    """Return an aware datetime in µs since the epoch, exactly (without a float)."""
    return (time - _EPOCH) // _MICROSECOND


def to_datetime(time: int) -> datetime:
    """Return µs since the epoch as an aware datetime in UTC."""
    if 0 <= time < _EXACT:
        return datetime.fromtimestamp(time / 1e6, UTC)  # in a quarter of the time
    return _EPOCH + timedelta(microseconds=time)


def _to_extension(value: Any) -> msgpack.ExtType:
    if type(value) is datetime:
        offset, problem = value.utcoffset(), datetime_problem(value)
        if offset is None or problem is not None:
            raise ValueRefused(f"a value {problem}")
        packed = _DATETIME_LAYOUT.pack(to_microseconds(value), offset // _SECOND)
        if value.tzinfo is UTC or value.astimezone(UTC) == value:
            return msgpack.ExtType(_DATETIME, packed)
        return msgpack.ExtType(_ZONED, packed + bytes([value.fold]) + cast("str", zone_name(value)).encode())
    if type(value) is Content or type(value) is StoredContent:
        return msgpack.ExtType(_CONTENT, _pack_content(value))
    raise make_refusal(value, "a value")


def _to_extension_of_message(value: Any) -> msgpack.ExtType:
    if type(value) is StoredContent:
        return msgpack.ExtType(_STORED, _pack_content(value))
    return _to_extension(value)


def _pack_content(content: Content) -> bytes:
    return _CONTENT_LAYOUT.pack(content.size, content.is_text, content.digest)


def _from_extension(code: int, data: bytes) -> datetime | Content:
    if code in (_CONTENT, _STORED):
        size, is_text, digest = _CONTENT_LAYOUT.unpack(data)
        return (Content if code == _CONTENT else StoredContent)(digest, size, is_text)
    if code not in (_DATETIME, _ZONED):
        raise ValueError(f"unknown extension {code}")
    time, offset = _DATETIME_LAYOUT.unpack(data[:_DATETIME_SIZE] if code == _ZONED else data)
    value = to_datetime(time).astimezone(timezone(timedelta(seconds=offset)) if offset else UTC)
    return value if code == _DATETIME else _in_zone(value, data[_DATETIME_SIZE], data[_DATETIME_SIZE + 1 :].decode())


def _in_zone(value: datetime, fold: int, name: str) -> datetime:
    """Return a datetime with its zone; with its offset alone if this machine's zone of that name has another there."""
    if fold > 1 or not ZONE_NAME.fullmatch(name):
        raise ValueError("zone")
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # rarely needed, and slow to load

    try:
        zoned = value.replace(tzinfo=ZoneInfo(name), fold=fold)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return value
    return zoned if zoned.utcoffset() == value.utcoffset() else value


def unpack_plain(data: bytes) -> Any:
    """As `Codec.unpack`, callable from any thread."""
    value = _unpack(data)
    if _may_hold_timestamp(data) and _holds_timestamp(value):
        raise CorruptEvent(f"{len(data)} stored bytes hold a timestamp of msgpack's, which duramen never writes")
    return value


class Codec:
    """Packs and unpacks plain data. Not thread-safe: each thread that runs agents has its own.

    A reused packer takes 0.34 µs for a 121-byte event, `msgpack.packb` 0.58 µs (shared measurements of this design).
    """

    __slots__ = ("_event_bytes", "_limits", "_pack")

    def __init__(self, limits: Limits, *, of_messages: bool = False) -> None:
        """With `of_messages` what was stored for the agent that a message goes to is told from other content."""
        self._limits = limits
        self._event_bytes = limits.event_bytes
        # With strict types, subclasses, tuples and enums go to `_to_extension`, which refuses them.
        default = _to_extension_of_message if of_messages else _to_extension
        packer = msgpack.Packer(default=default, strict_types=True, use_bin_type=True)
        self._pack = cast("Callable[[Any], bytes]", packer.pack)

    def pack(self, value: Any) -> bytes:
        """Return plain data as bytes. Raises ValueRefused for values that msgpack cannot hold."""
        try:
            return self._pack(value)
        except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
            raise _refusal(error) from None

    def unpack(self, data: bytes) -> Any:
        """Return plain data from bytes. Raises CorruptEvent for anything but one whole msgpack value of ours."""
        return unpack_plain(data)

    def pack_exactly(self, value: Any, where: str) -> bytes:
        """Pack a value, read it back and compare. Raises ValueRefused unless it comes back equal in value and type.

        The message names `where`, and for a value that is no plain data also the place in it. As in `encode`, scalars
        are not read back, nor are containers that have them near the top.
        """
        packed = b""
        try:
            packed = self.pack(value)
            if _is_shallow(value):
                return packed
            found = self.unpack(packed)
            # Of the types that msgpack takes, only bytes-like ones and datetimes can be equal and still differ.
            is_exact = found == value and not any(marker in packed for marker in _INEXACT)
            is_same = is_exact or same_value(found, value)
        except (ValueRefused, CorruptEvent, RecursionError):
            is_same = False
        if not is_same:
            with suppress(TooLarge):  # large values are allowed here: it is the other reason that is wanted
                check_value(value, self._limits, where)
            raise ValueRefused(f"{where} would not be read back equal; use plain data with text keys only")
        return packed

    def encode(self, event: RawEvent) -> tuple[bytes, dict[str, Any]]:
        """Return the body of an event whose data was checked, and a copy of the data as it will be read back.

        The packer writes scalars exactly or refuses them; any other data is read back and compared. Raises
        ValueRefused if it would not read back equal, TooLarge over `Limits.event_bytes`.
        """
        try:
            body = self._pack(event)
        except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
            raise _refusal(error) from None
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
            if event[9] is None or _is_flat(event[9]):
                return body, data.copy()
        try:
            decoded: Any = msgpack.unpackb(body, ext_hook=_from_extension)
        except _DECODE_ERRORS:
            decoded = None
        # `==` settles nearly all; NaN differs from itself and needs the strict comparison.
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
        """Return the raw fields of a stored body. Raises CorruptEvent if it is not one of ours."""
        most = self._limits.event_bytes + _WRAPPING
        if len(body) > most:
            raise CorruptEvent(
                f"a stored event of {len(body)} bytes is over the limit of {most}",
                expected=most,
                actual=len(body),
            )
        event: RawEvent = self.unpack(body)
        if type(event) is not list or len(event) != _FIELDS:
            raise CorruptEvent("a stored event does not have the fields of one; restore the log from a backup")
        return event

    def decode_all(self, bodies: Sequence[bytes]) -> list[RawEvent] | None:
        """As `decode` of each, at a third of the cost; None if they have to be decoded one by one.

        Decodes no more bytes together than one event may have, so that the memory it takes is bounded.
        """
        joined = _SEPARATOR.join(bodies)
        separators = len(bodies) - 1
        if separators < 0:
            return []
        if len(joined) - len(_SEPARATOR) * separators > self._limits.event_bytes or _may_hold_timestamp(joined):
            return None
        try:
            values: list[Any] = msgpack.unpackb(
                _ARRAY.pack(_ARRAY_32, 2 * separators + 1) + joined,
                raw=False,
                strict_map_key=True,
                ext_hook=_from_extension,
            )
        except _DECODE_ERRORS:
            return None
        # If each body is one value, bodies and separators alternate. No body can hold the separator, which is random.
        if values[1::2].count(_SEPARATOR_VALUE) != separators:
            return None
        events: list[RawEvent] = values[::2]
        is_valid = {*map(type, events)} <= {list} and {*map(len, events)} <= {_FIELDS}
        return events if is_valid else None

    def copy_for_reply(self, value: Any) -> Any:
        """As `copy`, and `WithContents` where there is content in it."""
        if type(value) in _CONTAINERS:
            packed = self.pack(value)
            copied = self.unpack(packed)
            # Few values have the first byte, which is found at a tenth of the time of all three.
            may_hold = CONTENT_MARK[:1] in packed and CONTENT_MARK in packed
            return WithContents(copied) if may_hold and any(contents_in(copied)) else copied
        return WithContents(value) if type(value) is Content else value

    def copy(self, value: Any) -> Any:
        """Return a copy of plain data that shares no container with it."""
        if type(value) in _CONTAINERS:
            return self.unpack(self.pack(value))
        return value


def _refusal(error: Exception) -> ValueRefused:
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
    """Whether msgpack's own timestamp may be in the bytes; `ext_hook` never sees one. Seldom True for our bytes."""
    # Checking the few places of one byte takes a fifth of the time of searching for three sequences.
    at = 0
    for _ in range(_MAX_PROBES):
        at = data.find(b"\xff", at + 1)
        if at < 0:
            return False
        if data[at - 1] in _TIMESTAMP_KINDS:
            break
    return b"\xd6\xff" in data or b"\xd7\xff" in data or b"\xc7\x0c\xff" in data


def _holds_timestamp(value: Any) -> bool:
    if type(value) is dict:
        return any(map(_holds_timestamp, cast("dict[Any, Any]", value).values()))
    if type(value) is list:
        return any(map(_holds_timestamp, cast("list[Any]", value)))
    return type(value) is msgpack.Timestamp


def _is_flat(fields: dict[str, Any]) -> bool:
    """Whether a dict has nothing but scalars, and lists of scalars, under text keys: they are written exactly."""
    for key, value in fields.items():
        if type(key) is not str:
            return False
        kind = _type_of(value)
        if kind not in _SCALARS and (kind is not list or not _SCALARS.issuperset(map(type, value))):
            return False
    return True


def _is_shallow(value: Any) -> bool:
    """Whether a value is a scalar, a flat dict, or a list of these and of lists of scalars: it is written exactly."""
    kind = _type_of(value)
    if kind is not list:
        return kind in _SCALARS or (kind is dict and _is_flat(value))
    for item in value:
        kind = _type_of(item)
        if kind not in _SCALARS and not (
            _SCALARS.issuperset(map(type, item)) if kind is list else kind is dict and _is_flat(item)
        ):
            return False
    return True


_CONTAINERS: Final = frozenset((dict, list))
_INEXACT: Final = (b"\xc4", b"\xc5", b"\xc6", b"\xc7", b"\xd8")
"""First bytes of binary data and of datetimes; other bytes may be the same."""
_type_of: Callable[[object], type[Any]] = type
_SCALARS: Final = frozenset((str, int, float, bool, bytes, type(None)))
