"""Bytes and back: what is accepted reads back equal in value and type, everything else is refused before or after."""

from __future__ import annotations

import math
import struct
from collections import OrderedDict, namedtuple
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from hashlib import sha256
from io import BytesIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgpack
from duramen.events.codec.event_codec import (
    DIGEST_SIZE,
    NO_DIGEST,
    Codec,
    RawEvent,
    chain,
    to_datetime,
    to_microseconds,
)
from duramen.events.errors import CorruptEvent, TooLarge, ValueRefused
from duramen.events.model.limits import Limits
from duramen.events.model.values import check_value, same_value
from naming import shown

LIMITS = Limits()
CODEC = Codec(LIMITS)
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia", "UTC"]


class Level(IntEnum):
    LOW = 1


class Colour(StrEnum):
    RED = "red"


class Words(str):
    __slots__ = ()


class Size(int):
    pass


class Ratio(float):
    pass


class Blob(bytes):
    pass


class Row(list[Any]):
    pass


class Moment(datetime):
    pass


Point = namedtuple("Point", "x y")


offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
    lambda delta: timezone(timedelta(seconds=delta // timedelta(seconds=1)))
)
zones = st.just(UTC) | offsets | st.sampled_from(ZONES).map(ZoneInfo)
times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones, allow_imaginary=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text()
    | st.binary()
    | times
)
plain: Any = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=25,
)
data = st.dictionaries(st.text(max_size=10), plain, max_size=6)


def raw_event(content: Any = None, **changes: Any) -> RawEvent:
    fields: dict[str, Any] = {
        "type": "claim_found",
        "version": 1,
        "level": 2,
        "time": 1_700_000_000_000_000,
        "data": {} if content is None else content,
        "session_id": "s-1",
        "command": None,
        "causation_id": None,
        "correlation_id": None,
        "metadata": None,
    }
    return list({**fields, **changes}.values())


# -- what is accepted --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(plain)
def test_every_accepted_value_reads_back_equal_in_value_and_type(value: Any) -> None:
    check_value(value, LIMITS)
    assert same_value(CODEC.unpack(CODEC.pack(value)), value)


@pytest.mark.slow
@given(
    content=data,
    session_id=st.none() | st.text(max_size=10),
    command=st.none() | st.tuples(st.text(max_size=10), st.binary(max_size=16)).map(list),
    metadata=st.none() | data,
)
def test_every_event_of_accepted_values_reads_back_equal(
    content: dict[str, Any], session_id: str | None, command: Any, metadata: Any
) -> None:
    event = raw_event(content, session_id=session_id, command=command, metadata=metadata)
    body, copied = CODEC.encode(event)
    assert same_value(CODEC.decode(body), event)
    assert same_value(copied, content)


@pytest.mark.slow
@given(data)
def test_what_encode_gives_back_shares_nothing_with_what_it_was_given(content: dict[str, Any]) -> None:
    _, held = CODEC.encode(raw_event({"inner": content}))
    _, copied = CODEC.encode(raw_event(content))
    added = "".join(content) + "added"  # longer than any key there is
    content[added] = 1
    assert added not in held["inner"]
    assert added not in copied


@pytest.mark.parametrize(
    "value",
    [
        -(2**63),
        2**64 - 1,
        2**63,
        -1,
        True,
        False,
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        5e-324,
        1.7976931348623157e308,
        1.0,
        "",
        "\x00",
        "\U0010ffff",
        "e\u0301",
        "\ufeff",
        b"",
        b"\xff\xfe",
        [],
        {},
        {"": None},
        {"a": {"b": [{}]}},
        [[], {}, None],
    ],
    ids=shown,
)
def test_the_edges_of_each_type_read_back_equal(value: Any) -> None:
    check_value(value, LIMITS)
    assert same_value(CODEC.unpack(CODEC.pack(value)), value)


def test_a_number_a_text_and_bytes_of_the_same_look_stay_apart() -> None:
    value = [1, 1.0, True, "1", b"1", 0, 0.0, -0.0, False, None, "", b"", [], {}]
    read = CODEC.unpack(CODEC.pack(value))
    assert [type(item) for item in read] == [type(item) for item in value]
    assert math.copysign(1, read[7]) == -1


@pytest.mark.parametrize("length", [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_every_length_reads_back(length: int) -> None:
    for value in ("x" * length, b"x" * length, [None] * length, dict.fromkeys(map(str, range(length)))):
        assert CODEC.unpack(CODEC.pack(value)) == value


def test_the_order_of_keys_is_kept() -> None:
    value = {"z": 1, "a": {"y": 1, "b": 2}, "m": 3}
    read = CODEC.unpack(CODEC.pack(value))
    assert list(read) == ["z", "a", "m"]
    assert list(read["a"]) == ["y", "b"]


# -- times -------------------------------------------------------------------------------------------------------------


@given(times)
def test_a_time_keeps_its_instant_to_the_microsecond_and_its_offset(time: datetime) -> None:
    read = CODEC.unpack(CODEC.pack(time))
    assert type(read) is datetime
    assert read == time
    assert read.utcoffset() == time.utcoffset()
    assert read.replace(tzinfo=None) == time.replace(tzinfo=None)
    assert to_microseconds(read) == to_microseconds(time)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(
    ("zone", "clock"),
    [
        ("Europe/Berlin", datetime(2024, 10, 27, 2, 30)),
        ("America/New_York", datetime(2024, 11, 3, 1, 30)),
        ("Australia/Lord_Howe", datetime(2024, 4, 7, 1, 45)),
        ("Europe/Berlin", datetime(2024, 3, 31, 2, 30)),  # this clock was never shown
    ],
)
def test_an_hour_that_comes_twice_or_never_reads_back_equal_with_its_zone(
    zone: str, clock: datetime, fold: int
) -> None:
    """Python takes it for unequal to every datetime with a fixed offset."""
    time = clock.replace(tzinfo=ZoneInfo(zone), fold=fold)
    assert time != time.replace(tzinfo=timezone(time.utcoffset() or timedelta(0)))
    check_value(time, LIMITS)
    body, copied = CODEC.encode(raw_event({"at": time}))
    for read in (copied["at"], CODEC.decode(body)[4]["at"], CODEC.copy([time])[0]):
        assert read == time
        assert (read.tzinfo, read.fold, read.utcoffset()) == (time.tzinfo, fold, time.utcoffset())
        assert to_microseconds(read) == to_microseconds(time)
        assert CODEC.pack(read) == CODEC.pack(time)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_zone_that_cannot_be_found_by_its_name_refuses_the_hours_in_which_clocks_change(fold: int) -> None:
    zone = ZoneInfo.no_cache("Europe/Berlin")  # another object: Python compares with it as with another zone
    CODEC.pack(datetime(2024, 10, 27, 1, 30, tzinfo=zone))
    time = datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=fold)
    for write in (
        CODEC.pack,
        lambda value: CODEC.encode(raw_event({"at": value})),
        lambda value: check_value(value, LIMITS),
    ):
        with pytest.raises(ValueRefused, match=r"twice or never; convert it to UTC: value\.astimezone\(UTC\)"):
            write(time)
    body, copied = CODEC.encode(raw_event({"at": time.astimezone(UTC)}))
    assert copied["at"] == CODEC.decode(body)[4]["at"] == time.astimezone(UTC)


def zoned(name: bytes, *, fold: int = 0, offset: int = 3600) -> bytes:
    """A stored datetime of 2024-10-27 01:30 in UTC with a zone's name."""
    return bytes(
        msgpack.packb(msgpack.ExtType(2, struct.pack(">qi", 1729992600_000_000, offset) + bytes([fold]) + name))
    )


@pytest.mark.parametrize("name", [b"Atlantis/Capital", b"Asia/Tokyo", b"UTC"])
def test_a_machine_that_knows_the_zone_otherwise_reads_the_offset_alone(name: bytes) -> None:
    assert CODEC.unpack(zoned(name)) == datetime(2024, 10, 27, 2, 30, tzinfo=timezone(timedelta(hours=1)))
    assert CODEC.unpack(zoned(b"Europe/Berlin", fold=1)).tzinfo is ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "stored",
    [zoned(name) for name in (b"", b"../../etc/passwd", b"/etc/localtime", b"a\0b", b"a//b", b"\xff")]
    + [
        zoned(b"Europe/Berlin", fold=2),
        msgpack.packb(msgpack.ExtType(2, b"x" * 12)),
        msgpack.packb(msgpack.ExtType(2, b"")),
    ],
)
def test_a_zone_that_was_not_written_by_us_is_corrupt(stored: bytes) -> None:
    with pytest.raises(CorruptEvent):
        CODEC.unpack(stored)


def test_utc_reads_back_as_utc() -> None:
    assert CODEC.unpack(CODEC.pack(datetime(2024, 1, 1, tzinfo=UTC))).tzinfo is UTC


@pytest.mark.parametrize(
    "time",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 1, 12, tzinfo=timezone(timedelta(hours=-5))),
        datetime(9999, 12, 31, tzinfo=timezone(timedelta(hours=5))),
        datetime(1900, 1, 1, tzinfo=timezone(timedelta(hours=-23, minutes=-59, seconds=-59))),
    ],
)
def test_the_first_and_the_last_times_there_are_read_back(time: datetime) -> None:
    check_value(time, LIMITS)
    assert CODEC.unpack(CODEC.pack(time)).isoformat() == time.isoformat()


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_an_instant_and_its_microseconds_are_the_same(time: int) -> None:
    assert to_microseconds(to_datetime(time)) == time


def test_an_offset_that_would_be_read_back_rounded_is_refused() -> None:
    odd = datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1, microseconds=500_000)))
    with pytest.raises(ValueRefused):
        check_value(odd, LIMITS)


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED: list[Any] = [
    (),
    (1, 2),
    [1, (2,)],
    {"a": {"b": ()}},
    Point(1, 2),
    Level.LOW,
    {"a": [Level.LOW]},
    Colour.RED,
    Words("x"),
    Size(1),
    Ratio(1.0),
    Blob(b"x"),
    Row([1]),
    OrderedDict(a=1),
    {1: "a"},
    {"a": {2: "b"}},
    {None: 1},
    {True: 1},
    {b"a": 1},
    {("a",): 1},
    {Words("a"): 1},
    {Colour.RED: 1},
    "\ud800",
    ["a\udfffb"],
    {"\ud800": 1},
    2**64,
    -(2**63) - 1,
    [10**30],
    datetime(2024, 1, 1),
    {"at": [datetime(2024, 1, 1)]},
    Moment(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1).date(),
    {1, 2},
    frozenset(),
    bytearray(b"x"),
    memoryview(b"x"),
    Decimal(1),
    UUID(int=1),
    1 + 2j,
    object(),
    len,
    int,
    msgpack.ExtType(1, b"x"),
    msgpack.ExtType(5, b"x"),
    msgpack.Timestamp(1),
]


@pytest.mark.parametrize("value", REFUSED, ids=shown)
def test_what_would_not_read_back_the_same_is_refused_before_it_is_written(value: Any) -> None:
    with pytest.raises(ValueRefused):
        check_value(value, LIMITS)


# msgpack takes these for bytes and for an instant, and keys of bytes for keys; only the check knows better.
LOOKALIKES = (bytearray, memoryview, msgpack.Timestamp)


@pytest.mark.parametrize(
    "value",
    [value for value in REFUSED if type(value) not in LOOKALIKES and value != {b"a": 1}],
    ids=shown,
)
def test_the_codec_alone_refuses_it_too(value: Any) -> None:
    """A second line behind the check, for what would come back as something else."""
    with pytest.raises(ValueRefused) as refused:
        CODEC.encode(raw_event({"value": value}))
    assert "is of type int" not in str(refused.value)  # of an int its size is wrong, and of others their type


def test_the_codec_alone_says_what_to_do_too() -> None:
    """A message with a command id is packed for its fingerprint before its values are looked at."""
    with pytest.raises(ValueRefused, match=r"is an int outside .*: str\(value\)"):
        CODEC.pack({"n": 2**64})
    with pytest.raises(ValueRefused, match=r"tuple, which is not plain data; .*list\(value\)"):
        CODEC.pack([(1, 2)])


def test_a_packer_that_refused_something_has_nothing_of_it_left() -> None:
    codec = Codec(LIMITS)
    good = codec.pack({"a": 1})
    for value in REFUSED:
        with pytest.raises(ValueRefused):
            check_value(value, LIMITS)
        with suppress(ValueRefused):
            codec.pack({"before": "x" * 100, "value": value})
        assert codec.pack({"a": 1}) == good


def test_a_value_that_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(ValueRefused):
        CODEC.pack(ring)


def test_a_value_nested_beyond_what_can_be_packed_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    with pytest.raises(ValueRefused):
        CODEC.pack(deep)


def test_a_refusal_shows_nothing_of_the_value() -> None:
    for value in ({"k": ("sk-secret",)}, {"sk-secret": {"a": {1}}}, ["sk-secret\ud800"]):
        with pytest.raises(ValueRefused) as caught:
            CODEC.encode(raw_event({"value": value}))
        assert "sk-secret" not in str(caught.value)


def test_an_event_over_the_limit_is_refused_and_one_at_it_is_not() -> None:
    event = raw_event({"text": "x" * 100})
    size = len(CODEC.encode(event)[0])
    assert len(Codec(Limits(event_bytes=size)).encode(event)[0]) == size
    with pytest.raises(TooLarge) as caught:
        Codec(Limits(event_bytes=size - 1)).encode(event)
    assert (caught.value.expected, caught.value.actual) == (size - 1, size)


# -- bytes of somebody else --------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_corrupt(body: bytes) -> None:
    try:
        event = CODEC.decode(body)
    except CorruptEvent:
        return
    assert type(event) is list
    assert len(event) == 10


@pytest.mark.slow
@given(content=data, position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_an_event_or_corrupt(content: dict[str, Any], position: int, bit: int) -> None:
    body = bytearray(CODEC.encode(raw_event(content))[0])
    body[position % len(body)] ^= 1 << bit
    with suppress(CorruptEvent):
        CODEC.decode(bytes(body))


@given(content=data, length=st.integers(0, 10_000))
def test_an_event_cut_anywhere_is_corrupt(content: dict[str, Any], length: int) -> None:
    body = CODEC.encode(raw_event(content))[0]
    with pytest.raises(CorruptEvent):
        CODEC.decode(body[: length % len(body)])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x90",
        b"\x99" + b"\xc0" * 9,
        b"\x9b" + b"\xc0" * 11,
        b"\x80",
        b"\x9a" + b"\xc0" * 9,
        b"\x9a" + b"\xc0" * 11,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x9a" * 2_000,
        b"\x91" * 100_000 + b"\xc0",
        b"\x80" * 2**20,
    ],
    ids=lambda body: body[:8].hex() + f"-{len(body)}",
)
def test_poison_is_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptEvent):
        CODEC.decode(body)


@pytest.mark.parametrize(
    "value",
    [
        b"\xd4\x00\x00",
        b"\xd4\x05\x00",
        b"\xd4\x80\x00",
        b"\xc7\x00\x01",
        b"\xc7\x0b\x01" + bytes(11),
        b"\xc7\x0d\x01" + bytes(13),
        b"\xc7\x0c\x01" + b"\x7f" + b"\xff" * 7 + bytes(4),
        b"\xc7\x0c\x01" + bytes(8) + b"\x7f\xff\xff\xff",
        b"\xd6\xff\x00\x00\x00\x01",
        b"\xd7\xff" + bytes(8),
        b"\xc7\x0c\xff" + bytes(12),
        b"\xc7\x0c\xff" + b"\xff" * 12,
    ],
    ids=lambda value: value.hex(),
)
def test_an_extension_that_is_not_ours_is_corrupt(value: bytes) -> None:
    """Also msgpack's own time stamp: nothing but plain data comes out of stored bytes."""
    body = b"\x9a\xa1t\x01\x02\x00\x81\xa1v" + value + b"\xc0" * 5
    assert CODEC.decode(b"\x9a\xa1t\x01\x02\x00\x81\xa1v\xc0" + b"\xc0" * 5)[4] == {"v": None}
    with pytest.raises(CorruptEvent):
        CODEC.decode(body)


@pytest.mark.parametrize("key", [b"\x01", b"\xc0", b"\xc3", b"\xcb" + bytes(8), b"\x90", b"\x80"])
def test_a_key_that_is_no_text_is_corrupt(key: bytes) -> None:
    with pytest.raises(CorruptEvent):
        CODEC.decode(b"\x9a\xa1t\x01\x02\x00\x81" + key + b"\xc0" * 6)


good_bodies = data.map(lambda content: CODEC.encode(raw_event(content))[0])


def each(bodies: list[bytes]) -> list[RawEvent] | None:
    try:
        return [CODEC.decode(body) for body in bodies]
    except CorruptEvent:
        return None


@pytest.mark.slow
@given(st.lists(good_bodies, max_size=8))
def test_many_are_decoded_as_each_is(bodies: list[bytes]) -> None:
    together = CODEC.decode_all(bodies)
    if together is None:  # bytes of a text or a float that look like a time stamp of msgpack's
        assert b"\xff" in b"".join(bodies)
    else:
        assert same_value(together, each(bodies))


@pytest.mark.slow
@given(
    st.lists(good_bodies | st.binary(max_size=40), min_size=1, max_size=6),
    st.integers(0, 10_000),
    st.binary(max_size=9),
)
def test_many_of_which_one_is_not_an_event_are_not_decoded_together(bodies: list[bytes], at: int, put: bytes) -> None:
    number = at % len(bodies)
    body = bodies[number]
    bodies[number] = body[: at % (len(body) + 1)] + put + body[at % (len(body) + 1) :]
    together, alone = CODEC.decode_all(bodies), each(bodies)
    assert together is None or (alone is not None and same_value(together, alone))


def test_events_that_are_whole_only_when_put_together_are_not_events() -> None:
    """Negative control: as many events as bodies come out, and not a byte is left over."""
    first, second, third = (CODEC.encode(raw_event({"n": number}))[0] for number in range(3))
    bodies = [first[:9], first[9:] + second + third[:5], third[5:]]
    assert len(list(msgpack.Unpacker(_fed(bodies)))) == len(bodies)
    assert CODEC.decode_all([first, second, third]) is not None
    assert CODEC.decode_all(bodies) is None


def _fed(bodies: list[bytes]) -> BytesIO:
    return BytesIO(b"".join(bodies))


def test_no_more_are_decoded_together_than_one_may_have_bytes() -> None:
    bodies = [CODEC.encode(raw_event({"text": "x" * 100}))[0]] * 10
    size = len(b"".join(bodies))
    assert Codec(Limits(event_bytes=size)).decode_all(bodies) == each(bodies)
    assert Codec(Limits(event_bytes=size - 1)).decode_all(bodies) is None


def test_bytes_over_the_limit_are_not_even_decoded() -> None:
    body = CODEC.encode(raw_event({"text": "x" * 5_000}))[0]
    most = len(body) - 4_096  # what a resume's event may take more than the others
    assert Codec(Limits(event_bytes=most)).decode(body)
    with pytest.raises(CorruptEvent) as caught:
        Codec(Limits(event_bytes=most - 1)).decode(body)
    assert (caught.value.expected, caught.value.actual) == (len(body) - 1, len(body))


# -- copies and chains -------------------------------------------------------------------------------------------------


@given(plain)
def test_a_copy_is_the_same_and_shares_no_container(value: Any) -> None:
    copied = CODEC.copy(value)
    assert same_value(copied, value)
    if type(value) in (list, dict):
        assert copied is not value


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=10), st.data())
def test_a_digest_vouches_for_every_event_before_it(bodies: list[bytes], drawn: st.DataObject) -> None:
    def last(given: list[bytes]) -> bytes:
        digest = NO_DIGEST
        for body in given:
            digest = chain(digest, body)
        return digest

    assert len(last(bodies)) == DIGEST_SIZE
    position = drawn.draw(st.integers(0, len(bodies) - 1))
    changed = [*bodies]
    changed[position] += b"x"
    assert last(changed) != last(bodies)
    assert last(bodies[:-1]) != last(bodies)


def test_the_chain_is_sha256_over_digest_and_body() -> None:
    assert chain(b"a" * 16, b"body") == sha256(b"a" * 16 + b"body").digest()[:16]
    assert NO_DIGEST == b"\x00" * 16


# -- values that have to come back exactly -----------------------------------------------------------------------------

anything: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(bytearray, st.binary())
    | st.datetimes(timezones=st.none() | zones)
    | st.tuples(st.integers()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none() | st.binary(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(anything)
def test_what_is_packed_exactly_comes_back_equal_in_value_and_type(value: Any) -> None:
    try:
        packed = CODEC.pack_exactly(value, "value")
    except ValueRefused:
        return
    assert same_value(CODEC.unpack(packed), value)


@pytest.mark.parametrize(
    "value", [bytearray(b"x"), [memoryview(b"x")], {7: 1}, (1,), {"a": {1}}, 2**64, "\udcff", datetime(2024, 1, 1)]
)
def test_what_would_come_back_as_another_value_is_not_packed_exactly(value: Any) -> None:
    with pytest.raises(ValueRefused, match="the state"):
        CODEC.pack_exactly(value, "the state")
