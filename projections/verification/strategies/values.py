"""Strategies for plain data in odd shapes, and for values that only look like plain data."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from duramen.events import PlainData

_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1

# Each of these was wrong somewhere once: empty, NUL, a combining mark, a bidi control, a slash, beyond the first plane.
_ODD_TEXTS: Final = ("", "\x00", "e\u0301", "\u202e", "a/b", "~", "\U0001f9e0", "0", "-1", "None")
_ODD_FLOATS: Final = (0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324, 2.0**53)
_ODD_INTEGERS: Final = (_LEAST, 2**63 - 1, 2**63, _MOST, -(2**31) - 1, 2**53 + 1, 255, 256)


def texts(max_size: int = 12) -> SearchStrategy[str]:
    """Text that can be stored: any characters except lone surrogates."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=max_size) | st.sampled_from(_ODD_TEXTS)


def integers() -> SearchStrategy[int]:
    """Whole numbers that can be stored: -2**63 to 2**64 - 1."""
    return st.integers(_LEAST, _MOST) | st.sampled_from(_ODD_INTEGERS)


def instants() -> SearchStrategy[datetime]:
    """Aware datetimes with offsets of whole seconds, some before 1970 and some far ahead."""
    zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
    return st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC) | zones)


def scalars() -> SearchStrategy[PlainData]:
    """Plain data without containers."""
    return st.one_of(
        st.none(),
        st.booleans(),
        integers(),
        st.floats() | st.sampled_from(_ODD_FLOATS),
        texts(),
        st.binary(max_size=12),
        instants(),
    )


def values(keys: SearchStrategy[str] | None = None, *, max_leaves: int = 10) -> SearchStrategy[PlainData]:
    """Plain data of all kinds that can be stored. `keys` draws the keys of dicts, any text by default."""
    names = texts() if keys is None else keys

    def around(inner: SearchStrategy[PlainData]) -> SearchStrategy[PlainData]:
        return st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)

    return st.recursive(scalars(), around, max_leaves=max_leaves)


class _Level(IntEnum):
    LOW = 1


class _Word(StrEnum):
    YES = "yes"


class _Pair(NamedTuple):
    left: int
    right: int


class _Text(str):
    __slots__ = ()


# A function, since a test may change the values it gets.
def _nearly() -> list[Any]:
    return [
        (),
        (1, 2),
        _Pair(1, 2),
        {1, 2},
        frozenset("a"),
        bytearray(b"a"),
        memoryview(b"a"),
        _Level.LOW,
        _Word.YES,
        _Text("a"),
        OrderedDict(a=1),
        {1: "a"},
        {None: "a"},
        {("a",): "a"},
        2**64,
        _LEAST - 1,
        1j,
        Decimal("1.0"),
        datetime(2024, 1, 1),
        date(2024, 1, 1),
        timedelta(1),
        "\ud800",
        {"\ud800": 1},
        object(),
        len,
    ]


def near_values() -> SearchStrategy[Any]:
    """Plain data, and values that only look like it, alone or nested."""
    near = st.integers(0, len(_nearly()) - 1).map(lambda index: _nearly()[index])

    def around(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
        return st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3)

    # In a tuple, so that scalars as a whole are as likely as the others: `|` flattens unions.
    plain = st.tuples(scalars()).map(lambda one: one[0])
    return st.recursive(near | plain, around, max_leaves=4)
