"""Plain data: exactly what can be read back equal is accepted, and every bound holds."""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import asdict as dataclass_fields
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy
import pytest
from attrs import asdict, define
from hypothesis import given
from hypothesis import strategies as st

from duramen.events.errors import TooLarge, ValueRefused
from duramen.events.model.limits import Limits
from duramen.events.model.values import check_value, copy_plain, describe_type, same_value

# Written out, so that these tests say what a bound does and not how large it is.
LIMITS = Limits(depth=64, container_items=65_536, text_bytes=2**20, event_nodes=100_000, snapshot_bytes=8 * 2**20)
SMALL = Limits(depth=3, container_items=4, text_bytes=6, event_nodes=9)


class Words(str):
    __slots__ = ()


class Size(int):
    pass


class Level(IntEnum):
    LOW = 1


class Colour(StrEnum):
    RED = "red"


class Kind(Enum):
    ONE = 1


class Moment(datetime):
    pass


class Bag(dict[str, Any]):
    pass


class Row(list[Any]):
    pass


class EqualTypes(type):
    """A metaclass whose classes cannot be hashed."""

    def __eq__(cls, other: object) -> bool:
        return True


class Unhashable(metaclass=EqualTypes):
    pass


class Liar:
    __class__: Any = property(lambda self: str)


BareZone: Any = tzinfo


class Zone(tzinfo):
    """A time zone of a user's own, which answers as it likes."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def utcoffset(self, dt: datetime | None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None


Point = namedtuple("Point", "x y")
NOON = datetime(2024, 5, 6, 12, 30, 15, 123456)
LONE = "\ud800"

NOT_PLAIN: dict[str, Any] = {
    "tuple": (1, 2),
    "empty tuple": (),
    "namedtuple": Point(1, 2),
    "set": {1},
    "frozenset": frozenset(),
    "bytearray": bytearray(b"x"),
    "memoryview": memoryview(b"x"),
    "subclass of str": Words("x"),
    "subclass of int": Size(1),
    "IntEnum": Level.LOW,
    "StrEnum": Colour.RED,
    "Enum": Kind.ONE,
    "OrderedDict": OrderedDict(a=1),
    "defaultdict": defaultdict(list),
    "subclass of dict": Bag(),
    "subclass of list": Row(),
    "subclass of datetime": Moment(2024, 1, 1, tzinfo=UTC),
    "date": date(2024, 1, 1),
    "time": time(1, 2, tzinfo=UTC),
    "timedelta": timedelta(1),
    "Decimal": Decimal("1.5"),
    "Fraction": Fraction(1, 2),
    "complex": 1j,
    "UUID": UUID(int=1),
    "range": range(3),
    "iterator": iter(()),
    "ellipsis": ...,
    "type": str,
    "function": len,
    "object": object(),
    "type that cannot be hashed": Unhashable(),
    "object that lies about its class": Liar(),
    "int below 64 bits": -(2**63) - 1,
    "int above 64 bits": 2**64,
    "lone surrogate": LONE,
    "lone surrogate in long text": "é" * 50 + "\udfff",
    "int key": {1: "a"},
    "bool key": {True: "a"},
    "None key": {None: "a"},
    "bytes key": {b"a": "a"},
    "key of a subclass of str": {Words("a"): 1},
    "StrEnum key": {Colour.RED: 1},
    "lone surrogate in a key": {LONE: 1},
    "naive datetime": NOON,
    "offset below a second": NOON.replace(tzinfo=timezone(timedelta(microseconds=1))),
    "before year 1 in UTC": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    "after year 9999 in UTC": datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1))),
    "hour that comes twice": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo.no_cache("Europe/Berlin")),
    "its second time": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo.no_cache("Europe/Berlin"), fold=1),
    "hour that never comes": datetime(2024, 3, 31, 2, 30, tzinfo=ZoneInfo.no_cache("Europe/Berlin")),
    "zone without an offset": NOON.replace(tzinfo=Zone(None)),
    "zone a day away": NOON.replace(tzinfo=Zone(timedelta(hours=24))),
    "zone with a wrong type": NOON.replace(tzinfo=Zone(3600)),
    "zone that raises": NOON.replace(tzinfo=Zone(ValueError("no"))),
    "zone that does nothing": NOON.replace(tzinfo=BareZone()),
}

# Hypothesis cannot show an example that holds one of these.
NOT_PRINTABLE = {"type that cannot be hashed", "object that lies about its class"}

PLAIN: dict[str, tuple[Any, int]] = {
    "None": (None, 1),
    "bool": (True, 1),
    "zero": (0, 1),
    "least int": (-(2**63), 1),
    "largest int": (2**64 - 1, 1),
    "float": (1.5, 1),
    "NaN": (math.nan, 1),
    "infinity": (-math.inf, 1),
    "text": ("abc", 1),
    "empty text": ("", 1),
    "text in every plane": ("aé漢\U0001f600\x00\u202e", 1),
    "text that is not NFC": ("e\u0301", 1),
    "bytes": (b"\xff\x00", 1),
    "UTC": (NOON.replace(tzinfo=UTC), 1),
    "zone": (NOON.replace(tzinfo=ZoneInfo("Europe/Amsterdam")), 1),
    "hour that comes twice": (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), 1),
    "half an hour that comes twice": (datetime(2024, 4, 7, 1, 45, tzinfo=ZoneInfo("Australia/Lord_Howe")), 1),
    "hour before one that comes twice": (datetime(2024, 10, 27, 1, 59, 59, tzinfo=ZoneInfo("Europe/Berlin")), 1),
    "hour after one that comes twice": (datetime(2024, 10, 27, 3, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), 1),
    "hour after one that never comes": (datetime(2024, 3, 31, 3, tzinfo=ZoneInfo("Europe/Berlin")), 1),
    "offset with seconds": (NOON.replace(tzinfo=timezone(timedelta(minutes=19, seconds=32))), 1),
    "largest offset": (NOON.replace(tzinfo=timezone(timedelta(seconds=-86399))), 1),
    "first instant": (datetime.min.replace(tzinfo=UTC), 1),
    "last instant": (datetime.max.replace(tzinfo=UTC), 1),
    "first instant elsewhere": (datetime(1, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 1),
    "empty list": ([], 1),
    "empty dict": ({}, 1),
    "list": ([1, "a", None], 4),
    "dict": ({"a": 1, "b": 2.0}, 3),
    "nested": ({"a": [1, {"b": []}], "c": {}}, 6),
    "keys that no path names": ({"": 1, "*": 2, "a/b\x00": 3}, 4),
}


@pytest.mark.parametrize("value", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_data_is_refused_at_every_level(value: Any) -> None:
    for holder, where in ((value, "value"), ([1, value], "value/1"), ({"a": [{"b": value}]}, "value/a/0/b")):
        with pytest.raises(ValueRefused) as caught:
            check_value(holder, LIMITS)
        message = str(caught.value)
        assert message.startswith(where)
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 400


@pytest.mark.parametrize(("value", "nodes"), PLAIN.values(), ids=PLAIN)
def test_plain_data_is_accepted_and_its_nodes_are_counted(value: Any, nodes: int) -> None:
    assert check_value(value, LIMITS) == nodes
    assert check_value([value], LIMITS) == nodes + 1
    assert check_value({"k": value, "é": value}, LIMITS) == 2 * nodes + 1


def test_an_int_too_large_for_str_is_refused_as_any_other() -> None:
    with pytest.raises(ValueRefused, match="value/0 is an int outside"):
        check_value([10**5000], LIMITS)


# Keys and texts are drawn small, so that both sides of each bound of SMALL are met.
TEXT = st.text(alphabet="aé😀" + LONE, max_size=5)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.sampled_from([-(2**63), -(2**63) - 1, 2**64 - 1, 2**64]),
    st.floats(),
    TEXT,
    st.binary(max_size=8),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.sampled_from(sorted(set(NOT_PLAIN) - NOT_PRINTABLE)).map(NOT_PLAIN.__getitem__),
)
KEY = TEXT | st.sampled_from([1, None, Words("k"), b"k"])
ANYTHING = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEY, inner, max_size=5), max_leaves=12
)


def text_size(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def reference(value: Any, limits: Limits, depth: int = 0) -> int | None:
    """Count the nodes, or None for what has to be refused: the rules one by one, and slowly."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return 1
    if kind is int:
        return 1 if -(2**63) <= value < 2**64 else None
    if kind is bytes:
        return 1 if len(value) <= limits.text_bytes else None
    if kind is str:
        size = text_size(value)
        return 1 if size is not None and size <= limits.text_bytes else None
    if kind is datetime:
        try:
            offset = value.utcoffset()
            is_once = value.astimezone(UTC) == value
        except (OverflowError, ValueError, TypeError, NotImplementedError):
            return None
        # Only a zone that has a name tells which of two equal times it was.
        if not is_once and not (isinstance(value.tzinfo, ZoneInfo) and ZoneInfo(value.tzinfo.key) is value.tzinfo):
            return None
        return 1 if offset is not None and offset % timedelta(seconds=1) == timedelta(0) else None
    if not (kind is list or kind is dict) or len(value) > limits.container_items or depth == limits.depth:
        return None
    children = list(value)
    if kind is dict:
        if any(type(key) is not str or reference(key, limits) is None for key in value):
            return None
        children = list(value.values())
    counts = [reference(child, limits, depth + 1) for child in children]
    if None in counts or 1 + sum(count or 0 for count in counts) > limits.event_nodes:
        return None
    return 1 + sum(count or 0 for count in counts)


@pytest.mark.slow
@given(ANYTHING, st.sampled_from([SMALL, LIMITS]))
def test_exactly_what_the_rules_allow_is_accepted(value: Any, limits: Limits) -> None:
    expected = reference(value, limits)
    if expected is None:
        with pytest.raises((ValueRefused, TooLarge)):
            check_value(value, limits)
    else:
        assert check_value(value, limits) == expected


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.mark.parametrize(
    ("fitting", "over", "limits", "actual"),
    [
        (nested(3), nested(4), SMALL, 4),
        (nested(64), nested(65), LIMITS, 65),
        ([0] * 4, [0] * 5, SMALL, 5),
        (dict.fromkeys("abcd"), dict.fromkeys("abcde"), SMALL, 5),
        ([[0] * 3, [0] * 3], [[0] * 3, [0] * 4], SMALL, 10),
        ("é" * 3, "é" * 3 + "a", SMALL, 7),
        ("a" * 6, "a" * 7, SMALL, 7),
        (["😀a"], ["😀😀"], SMALL, 8),
        ({"é" * 3: 0}, {"é" * 4: 0}, SMALL, 8),
        ({"a" * 6: 0}, {"a" * 7: 0}, SMALL, 7),
        (b"\xff" * 6, b"\xff" * 7, SMALL, 7),
        ([b"\xff" * 6], [b"\xff" * 7], SMALL, 7),
        ("a" * 2**20, "a" * (2**20 + 1), LIMITS, 2**20 + 1),
    ],
)
def test_a_bound_is_the_largest_that_fits(fitting: Any, over: Any, limits: Limits, actual: int) -> None:
    check_value(fitting, limits)
    with pytest.raises(TooLarge) as caught:
        check_value(over, limits)
    assert caught.value.actual == actual
    assert caught.value.expected < actual
    assert len(str(caught.value)) < 400


def test_a_cycle_is_too_deep() -> None:
    single: list[Any] = []
    single.append(single)
    double: dict[str, Any] = {}
    double.update(a=double, b=[double, double])
    for cyclic in (single, double):
        with pytest.raises(TooLarge, match="beyond 64 levels of nesting"):
            check_value(cyclic, LIMITS)


def test_a_small_object_that_unfolds_to_a_huge_value_is_stopped_by_its_nodes() -> None:
    value: Any = 0
    for _ in range(60):
        value = [value, value]
    with pytest.raises(TooLarge, match="beyond 100000 nodes"):
        check_value(value, LIMITS)


@pytest.mark.parametrize("text", ["x" * 2**20, "é" * 2**19, b"x" * 2**20])
def test_one_long_text_named_many_times_is_stopped_by_its_bytes(text: Any) -> None:
    check_value([text] * 8, LIMITS)
    with pytest.raises(TooLarge, match="take more than 8388608 bytes") as caught:
        check_value([text] * 9, LIMITS)
    assert caught.value.actual == 9 * 2**20


def test_one_long_key_used_many_times_is_stopped_by_its_bytes() -> None:
    key = "k" * 2**20
    check_value([{key: 1}] * 8, LIMITS)
    with pytest.raises(TooLarge, match="together"):
        check_value([{key: 1}] * 9, LIMITS)


def test_a_raised_depth_is_not_bounded_by_the_interpreter() -> None:
    assert check_value(nested(5000), Limits(depth=5000)) == 5001
    with pytest.raises(TooLarge):
        check_value(nested(5001), Limits(depth=5000))


def test_the_message_says_where_what_and_what_to_do() -> None:
    with pytest.raises(ValueRefused) as caught:
        check_value({"plan": [0, 1, 2, {"title": (1, 2)}]}, LIMITS, "patch")
    assert str(caught.value) == "patch/plan/3/title is of type tuple, which is not plain data; use a list: list(value)"
    assert caught.value.actual == "tuple"
    with pytest.raises(ValueRefused, match=r"value/a has a key of type int; keys must be exactly str: str\(key\)"):
        check_value({"a": {7: "x"}}, LIMITS)
    with pytest.raises(ValueRefused, match=r"use its value: value\.value"):
        check_value(Level.LOW, LIMITS)
    with pytest.raises(ValueRefused, match=r"it is a subclass: convert it to exactly int: int\(value\)"):
        check_value(Size(1), LIMITS)
    with pytest.raises(ValueRefused, match="without a time zone"):
        check_value(NOON, LIMITS)


def test_no_message_holds_the_value() -> None:
    for value in (["sk-secret", 10**19 * 9, LONE + "sk-secret"], [Words("sk-secret")], [("sk-secret",)]):
        with pytest.raises(ValueRefused) as caught:
            check_value(value, LIMITS)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_long_location_is_cut() -> None:
    value: Any = {1, 2}
    for _ in range(40):
        value = {"\u202e\n" * 5000: value}
    with pytest.raises(ValueRefused) as caught:
        check_value(value, LIMITS, "w" * 500)
    message = str(caught.value)
    assert message.startswith("w" * 60 + "...")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300


def test_the_type_of_a_value_is_named_in_a_bounded_way() -> None:
    assert describe_type(1) == "int"
    assert describe_type(Decimal(1)) == "decimal.Decimal"
    assert len(describe_type(type("é\n" * 500, (), {})())) <= 63


def same_reference(a: Any, b: Any) -> bool:
    """Compare what a careful reader would write down of each."""
    return bool(written(a) == written(b))


def written(value: Any) -> Any:
    if isinstance(value, dict):
        return ("dict", sorted((key, written(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", [written(item) for item in value])
    if isinstance(value, datetime):
        return ("datetime", value.isoformat())
    return (type(value).__name__, repr(value))


LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([0.0, -0.0, 1.0, 2.0, math.nan, -math.nan, math.inf]),
    st.sampled_from(["", "1", "a", b"", b"1", b"a"]),
    st.sampled_from([0, 1, 2]).map(lambda h: NOON.replace(hour=12 + h, tzinfo=timezone(timedelta(hours=h)))),
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


def rebuilt(value: Any) -> Any:
    """Build the value again of other objects, with its keys in another order."""
    if isinstance(value, dict):
        return {key: rebuilt(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [rebuilt(item) for item in value]
    if isinstance(value, float):
        return float(repr(value))
    return value


@given(VALUE, VALUE)
def test_values_are_the_same_exactly_if_they_are_written_the_same(a: Any, b: Any) -> None:
    assert same_value(a, b) is same_reference(a, b)
    assert same_value(b, a) is same_reference(a, b)


@given(VALUE)
def test_a_value_is_the_same_as_itself_built_again(value: Any) -> None:
    assert same_value(value, value) is True
    assert same_value(value, rebuilt(value)) is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (True, 1),
        (False, 0),
        (1, 1.0),
        (0.0, -0.0),
        (0, None),
        ("a", b"a"),
        ("é", "e\u0301"),
        ([], {}),
        ([1], (1,)),
        ("x", Words("x")),
        (1, Level.LOW),
        ({"a": 1}, OrderedDict(a=1)),
        ({"a": None}, {"b": None}),
        ({"a": None}, {}),
        ([1, 2], [1]),
        ([1, 2], [2, 1]),
        (NOON.replace(tzinfo=UTC), NOON.replace(hour=13, tzinfo=timezone(timedelta(hours=1)))),
        (NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=timezone(timedelta(hours=1)))),
        (NOON.replace(tzinfo=UTC), NOON),
    ],
)
def test_what_only_looks_the_same_is_not(a: Any, b: Any) -> None:
    for one, other in ((a, b), ([a], [b]), ({"k": [a]}, {"k": [b]})):
        assert same_value(one, other) is False
        assert same_value(other, one) is False


def test_not_a_number_is_the_same_as_another() -> None:
    one, other = float("nan"), float("nan")
    assert one != other
    assert same_value({"a": [one]}, {"a": [other]})


def test_a_datetime_is_the_same_in_another_zone_of_equal_offset() -> None:
    amsterdam = ZoneInfo("Europe/Amsterdam")
    first = datetime(2024, 10, 27, 2, 30, tzinfo=amsterdam)
    second = first.replace(fold=1)
    stored_first = first.replace(tzinfo=timezone(timedelta(hours=2)))
    stored_second = second.replace(tzinfo=timezone(timedelta(hours=1)), fold=0)
    assert first != stored_first  # which is why == does not do
    assert same_value(first, stored_first)
    assert same_value(second, stored_second)
    assert not same_value(first, second)
    assert not same_value(second, stored_first)


# -- copies ------------------------------------------------------------------------------------------------------------

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


def containers(value: Any) -> list[Any]:
    if type(value) not in (dict, list):
        return []
    children = value.values() if type(value) is dict else value
    return [value, *(found for child in children for found in containers(child))]


@given(TREES)
def test_a_copy_is_the_same_value_and_shares_no_container(value: Any) -> None:
    copied = copy_plain(value)
    assert same_value(copied, value)
    assert not {id(found) for found in containers(value)} & {id(found) for found in containers(copied)}


def test_a_copy_keeps_the_order_of_keys_and_shares_other_types() -> None:
    other, row = Row([1]), {"b": 1, "a": 2}
    copied = copy_plain([row, other, (row,)])
    assert list(copied[0]) == ["b", "a"]
    assert copied[1] is other
    assert copied[2] == (row,)


def test_a_copy_of_a_cycle_is_a_cycle_and_of_a_shared_container_shared() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    shared: list[Any] = [1]
    copied, twice = copy_plain(cycle), copy_plain([shared, shared])
    assert copied[0] is copied
    assert copied is not cycle
    assert twice[0] is twice[1]
    assert twice[0] is not shared


@pytest.mark.slow
def test_a_value_that_is_too_deep_to_be_copied_is_given_back() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert copy_plain(deep) is deep
    with pytest.raises(TooLarge):
        check_value(copy_plain(deep), LIMITS)


# -- the remedy of each type -------------------------------------------------------------------------------------------


class Model:
    """As pydantic's."""

    def model_dump(self) -> dict[str, Any]:
        return {"a": 1}


@dataclass
class Data:
    a: int = 1


@define
class Fields:
    a: int = 1


REMEDIES: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (numpy.float64(1.5), "value.item()", lambda value: value.item()),
    (numpy.int64(1), "value.item()", lambda value: value.item()),
    (numpy.bool_(True), "value.item()", lambda value: value.item()),
    (numpy.str_("a"), "value.item()", lambda value: value.item()),
    (numpy.array([1, 2]), "value.tolist()", lambda value: value.tolist()),
    (Decimal("1.10"), "str(value)", str),
    (Fraction(1, 3), "str(value)", str),
    (UUID(int=1), "str(value)", str),
    (Path("a/b"), "str(value)", str),
    (2**64, "str(value)", str),
    (Model(), "value.model_dump()", lambda value: value.model_dump()),
    (Data(), "dataclasses.asdict(value)", dataclass_fields),
    (Fields(), "attrs.asdict(value)", asdict),
    ((1, 2), "list(value)", list),
    ({1}, "list(value)", list),
    (frozenset({1}), "list(value)", list),
    (range(3), "list(value)", list),
    (deque([1]), "list(value)", list),
    ({"a": 1}.keys(), "list(value)", list),
    ({"a": 1}.values(), "list(value)", list),
    ({"a": 1}.items(), "list(value)", lambda value: list(map(list, value))),
    ((x for x in [1]), "list(value)", list),
    (map(str, [1]), "list(value)", list),
    (OrderedDict(a=1), "dict(value)", dict),
    (MappingProxyType({"a": 1}), "dict(value)", dict),
    (bytearray(b"a"), "bytes(value)", bytes),
    (memoryview(b"a"), "bytes(value)", bytes),
    (Colour.RED, "value.value", lambda value: value.value),
    (date(2024, 1, 1), "value.isoformat()", lambda value: value.isoformat()),
    (time(1, 2), "value.isoformat()", lambda value: value.isoformat()),
    (timedelta(1), "value.total_seconds()", lambda value: value.total_seconds()),
    (1j, "[value.real, value.imag]", lambda value: [value.real, value.imag]),
    (ValueError("a"), "type(value).__name__", lambda value: type(value).__name__),
]


@pytest.mark.parametrize(("value", "remedy", "apply"), REMEDIES, ids=lambda part: type(part).__name__)
def test_a_refusal_says_the_remedy_of_the_type_and_that_helps(
    value: Any, remedy: str, apply: Callable[[Any], Any]
) -> None:
    for held, where in ((value, "value"), ({"a": [value]}, "value/a/0")):
        with pytest.raises(ValueRefused) as caught:
            check_value(held, LIMITS)
        assert remedy in str(caught.value)
        assert str(caught.value).startswith(where)
    check_value(apply(value), LIMITS)
