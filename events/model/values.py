"""Plain data: the values that can be stored, and the check that a value is one of them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, TypeAlias
from uuid import UUID

from ..errors import TooLarge, ValueRefused
from .content import Content, StoredContent
from .limits import Limits

PlainData: TypeAlias = bool | int | float | str | bytes | datetime | list["PlainData"] | dict[str, "PlainData"] | None
"""Values that read back equal in value and type. Exact types only: no subclass, tuple or set."""

_Trail: TypeAlias = tuple["_Trail", object] | None
"""The location of a container: that of its own container, and its key there. Only a refusal formats it."""

_INT_MIN = -(2**63)
_INT_MAX = 2**64 - 1

_SHORT_TEXT = 1024
"""Characters; shorter texts are not added up, since the number of nodes bounds them."""

_SHOWN = 60

ZONE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")
"""The names of time zones that are stored: those of the tz database, and no path elsewhere."""

# The built-ins with narrower types: for an argument of type `Any`, a type checker would lose the result's type.
_type_of: Callable[[object], type[object]] = type
_numbered: Callable[[Any], Iterable[tuple[object, Any]]] = enumerate


def check_value(value: object, limits: Limits, where: str = "value") -> int:
    """Refuse a value that would not read back equal in value and type; return its number of nodes.

    A scalar is one node, a container one more than its children; the keys of a dict do not count. A scalar
    has depth 0, a flat container depth 1. A value referred to twice counts twice, and a cycle is too deep.

    Raises `ValueRefused` for a type that is not plain data, an int that does not fit 64 bits, text with a
    lone surrogate and a datetime without a usable offset; `TooLarge` for a value over `limits`. Either names
    the location, which starts with `where`. The value must not change meanwhile; it is neither copied nor
    stored. The encoded size is not checked, but long texts together may not exceed `snapshot_bytes`.
    """
    # Identity, not membership of a set: the metaclass of a foreign type need not be hashable.
    kind = type(value)
    if kind is str:
        text: Any = value
        if len(text) <= limits.text_bytes and text.isascii():  # most texts: saves two calls
            return 1
    elif kind is int:
        number: Any = value
        if _INT_MIN <= number <= _INT_MAX:
            return 1
    elif kind is dict or kind is list:
        return _check_container(value, limits, where)
    elif kind is bool or kind is float or value is None:
        return 1
    _check_scalar(value, limits, where, None)
    return 1


def copy_plain(value: Any) -> Any:
    """Return a copy that shares no dict or list with the value; everything else in it is shared.

    For values that are not checked yet: cycles and repeated containers are copied as they are. A value that is nested
    too deeply to be copied is returned itself; `check_value` refuses it.
    """
    kind = _type_of(value)
    if kind is not dict and kind is not list:
        return value
    try:
        return _copy_container(value, {})
    except RecursionError:
        return value


def _copy_container(value: Any, copies: dict[int, Any]) -> Any:
    copied = copies[id(value)] = value.copy()
    for key, child in copied.items() if _type_of(copied) is dict else _numbered(copied):
        kind = _type_of(child)
        if kind is dict or kind is list:
            known = copies.get(id(child))
            copied[key] = _copy_container(child, copies) if known is None else known
    return copied


def same_value(a: object, b: object) -> bool:
    """Whether two values of plain data are the same in value and type, at every level.

    Stricter than `==`: True is not 1, 1 is not 1.0, -0.0 is not 0.0. NaN is NaN, the order of a dict's keys
    does not matter, and datetimes are the same if instant and offset are. Nothing is promised for types that
    are not plain data. Nesting beyond Python's recursion limit raises `RecursionError`.
    """
    if a is b:
        return True
    kind = type(a)
    if kind is not type(b):
        return (kind is Content or kind is StoredContent) and a == b
    if kind is str or kind is int or kind is bytes or kind is bool:
        return a == b
    return _same_structure(a, b)


def describe_type(value: object) -> str:
    """Return the name of a value's type for a message, bounded and in ASCII."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return printable(name)


def printable(text: str) -> str:
    """Return a text fit for a message: other than printable ASCII is escaped, and long text is cut."""
    escaped = ascii(text[:_SHOWN])[1:-1]
    if len(text) <= _SHOWN and len(escaped) <= _SHOWN:
        return escaped
    return escaped[:_SHOWN] + "..."


def count_of(number: int, what: str) -> str:
    """A number with its noun, as in `1 event` and `2,000 events`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _check_container(root: object, limits: Limits, where: str) -> int:
    nodes = 1
    text = 0
    short = min(_SHORT_TEXT, limits.text_bytes)
    waiting: list[tuple[Any, int, _Trail]] = [(root, 1, None)]
    # A stack instead of recursion, so that a raised `depth` does not reach the interpreter's limit. Last in, first
    # out, so that a cycle reaches the depth limit before it fans out.
    while waiting:
        container, depth, trail = waiting.pop()
        size = len(container)
        nodes += size
        if depth > limits.depth or size > limits.container_items or nodes > limits.event_nodes:
            raise _container_too_large(depth, size, nodes, limits, _location(where, trail))
        kind = _type_of(container)
        if kind is dict:
            for key in container:
                if type(key) is not str or len(key) > short or not key.isascii():
                    text = _add_text(text, _check_key(key, limits, where, trail), limits, where)
        pairs: Iterable[tuple[object, Any]] = container.items() if kind is dict else _numbered(container)
        for key, item in pairs:
            kind = _type_of(item)
            if kind is str:
                if len(item) <= short and item.isascii():
                    continue
            elif kind is int:
                if _INT_MIN <= item <= _INT_MAX:
                    continue
            elif kind is dict or kind is list:
                waiting.append((item, depth + 1, (trail, key)))
                continue
            elif kind is bool or kind is float or item is None:
                continue
            text = _add_text(text, _check_scalar(item, limits, where, (trail, key)), limits, where)
    return nodes


def _add_text(total: int, size: int, limits: Limits, where: str) -> int:
    # Otherwise a list of one long text 65,536 times would be refused only after it was encoded.
    total += size
    if total > limits.snapshot_bytes:
        raise TooLarge(
            f"the texts in {printable(where)} take more than {limits.snapshot_bytes} bytes together; split it",
            expected=limits.snapshot_bytes,
            actual=total,
        )
    return total


def _check_scalar(value: Any, limits: Limits, where: str, trail: _Trail) -> int:
    """Return the size of a text in bytes, 0 for types of fixed size; None, bool and float need no check."""
    kind = _type_of(value)
    if kind is str:
        return _check_text(value, limits, where, trail)
    if kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            raise _int_refused(where, trail)
    elif kind is bytes:
        if len(value) > limits.text_bytes:
            raise _text_too_large(len(value), limits, _location(where, trail))
        return len(value)
    elif kind is datetime:
        problem = datetime_problem(value)
        if problem is not None:
            raise ValueRefused(f"{_location(where, trail)} {problem}")
    elif kind is not StoredContent:
        raise _type_refused(value, _location(where, trail))
    return 0


def _check_key(key: Any, limits: Limits, where: str, trail: _Trail) -> int:
    if type(key) is not str:
        raise ValueRefused(
            f"{_location(where, trail)} has a key of type {describe_type(key)}; keys must be exactly str: str(key)",
            expected="str",
            actual=describe_type(key),
        )
    return _check_text(key, limits, where, (trail, key))


def _check_text(text: str, limits: Limits, where: str, trail: _Trail) -> int:
    size = len(text)
    if size > limits.text_bytes:  # a character takes at least one byte, so no need to encode
        raise _text_too_large(size, limits, _location(where, trail))
    if text.isascii():
        return size
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueRefused(
            f"{_location(where, trail)} has a lone surrogate, which has no encoding; "
            "replace it, or give the text as bytes"
        ) from None
    if size > limits.text_bytes:
        raise _text_too_large(size, limits, _location(where, trail))
    return size


def datetime_problem(value: datetime) -> str | None:
    """Return why a datetime would not read back equal, as the end of a message; None if it would."""
    try:
        offset = value.utcoffset()
        if offset is None:
            return "is a datetime without a time zone; give it one, for example datetime.now(UTC)"
        if offset.microseconds:
            return "is a datetime whose UTC offset is not in whole seconds; convert it to UTC"
        if value.astimezone(UTC) != value and zone_name(value) is None:
            return "is a datetime that its time zone has twice or never; convert it to UTC: value.astimezone(UTC)"
    except OverflowError:
        return "is a datetime outside the years 1 to 9999 in UTC"
    except (NotImplementedError, TypeError, ValueError):  # raised by time zones of the user's own
        return "is a datetime whose time zone gives no UTC offset below 24 hours; convert it to UTC"
    return None


def zone_name(value: datetime) -> str | None:
    """Return the name of a datetime's zone, by which `ZoneInfo` finds the same one; None for other zones."""
    zone = value.tzinfo
    if type(zone) is timezone:
        return None
    from zoneinfo import ZoneInfo  # rarely needed, and slow to load

    if type(zone) is not ZoneInfo or not ZONE_NAME.fullmatch(zone.key or ""):
        return None
    try:
        return zone.key if ZoneInfo(zone.key) is zone else None
    except (ValueError, OSError):  # made from a file of the user's own
        return None


def _same_structure(a: Any, b: Any) -> bool:
    """Compare two values of one type for which `==` is not strict enough."""
    kind = _type_of(a)
    same = False
    if kind is dict:
        return len(a) == len(b) and all(key in b and same_value(item, b[key]) for key, item in a.items())
    if kind is list:
        return len(a) == len(b) and all(map(same_value, a, b))
    if kind is float:
        same = a.hex() == b.hex()  # tells 0.0 from -0.0, and every NaN is "nan"
    elif kind is Content or kind is StoredContent:
        same = a == b
    elif kind is datetime:
        # Not a == b, which is always false between zones if an offset depends on the fold.
        same = a.utcoffset() == b.utcoffset() and a.replace(tzinfo=None) == b.replace(tzinfo=None)
    return same


def _location(where: str, trail: _Trail) -> str:
    """Format a location: "value/plan/3/title", cut in the middle when it is long."""
    names: list[str] = []
    while trail is not None:
        trail, key = trail
        names.append(printable(str(key)))
    names.append(printable(where))
    text = "/".join(reversed(names))
    return text if len(text) <= 200 else f"{text[:100]}...{text[-97:]}"


def _container_too_large(depth: int, size: int, nodes: int, limits: Limits, location: str) -> TooLarge:
    if depth > limits.depth:
        what, expected, actual = "levels of nesting (or holds itself)", limits.depth, depth
    elif size > limits.container_items:
        what, expected, actual = "items in one list or dict", limits.container_items, size
    else:
        what, expected, actual = "nodes in all", limits.event_nodes, nodes
    message = f"{location} goes beyond {expected} {what}; split it into smaller values"
    return TooLarge(message, expected=expected, actual=actual)


def _text_too_large(size: int, limits: Limits, location: str) -> TooLarge:
    message = f"{location} is a text, bytes or key of more than {limits.text_bytes} bytes; split it"
    return TooLarge(message, expected=limits.text_bytes, actual=size)


def _int_refused(where: str, trail: _Trail) -> ValueRefused:
    return ValueRefused(
        f"{_location(where, trail)} is an int outside -2**63 to 2**64 - 1; give it as a str: str(value)",
        expected="-2**63 to 2**64 - 1",
    )


def make_refusal(value: object, where: str) -> ValueRefused:
    """The error for a value that is no plain data, or for an int that does not fit 64 bits, with what to do instead."""
    return _int_refused(where, None) if type(value) is int else _type_refused(value, where)


def _type_refused(value: object, location: str) -> ValueRefused:
    name = describe_type(value)
    if type(value) is Content:  # a foreign object may raise where its class is asked for
        return ValueRefused(
            f"{location} refers to content that is kept beside a log; give the content itself: system.load_content",
            expected="plain data",
            actual=name,
        )
    return ValueRefused(
        f"{location} is of type {name}, which is not plain data; {_advice(type(value))}",
        expected="plain data",
        actual=name,
    )


_METHODS: Final = (
    ("model_dump", "use its fields: value.model_dump()"),
    ("__dataclass_fields__", "use its fields: dataclasses.asdict(value)"),
    ("__attrs_attrs__", "use its fields: attrs.asdict(value)"),
    ("to_dict", "use its data: value.to_dict()"),
    ("tolist", "use its numbers: value.tolist(), or value.item() for a single one"),
)
"""By an attribute that such classes have: those of pydantic, dataclasses, attrs, pandas; numpy and its kin."""


def _advice(kind: type[object]) -> str:
    attributes = {name for base in type.mro(kind) for name in base.__dict__}
    if {"item", "tolist"} <= attributes and "__setitem__" not in attributes:  # a scalar of numpy's
        return "use the value itself: value.item()"
    for name, remedy in _METHODS:
        if name in attributes and kind is not memoryview:
            return remedy
    for kinds, remedy in _remedies():
        for plain in kinds:
            if _is_subclass(kind, plain):
                return remedy.format(plain.__name__)
    return "convert it to None, bool, int, float, str, bytes, an aware datetime, a list or a dict with str keys"


def _remedies() -> Sequence[tuple[tuple[type[Any], ...], str]]:
    """Types that are refused, and what to store in their place; the first that fits counts."""
    from decimal import Decimal  # both are slow to load, and needed only for the error
    from fractions import Fraction

    return (
        ((Enum,), "use its value: value.value"),
        ((tuple, set, frozenset, range, deque, ValuesView, KeysView, ItemsView, Iterator), "use a list: list(value)"),
        ((bytearray, memoryview), "use bytes: bytes(value)"),
        ((Decimal, Fraction, UUID, PurePath), "use a str: str(value)"),
        ((timedelta,), "use its seconds: value.total_seconds()"),
        ((Awaitable,), "await it first"),
        ((BaseException,), "use a str, such as type(value).__name__"),
        ((str, int, float, bytes, datetime, list, dict), "it is a subclass: convert it to exactly {0}: {0}(value)"),
        ((date, time), "use an aware datetime or a str: value.isoformat()"),
        ((complex,), "use a list: [value.real, value.imag]"),
        ((Mapping,), "use a dict: dict(value)"),
        ((Set, Sequence), "use a list: list(value)"),
    )


def _is_subclass(kind: type[object], plain: type[Any]) -> bool:
    try:
        return issubclass(kind, plain)
    except Exception:  # an abstract class looks a type up by its hash, which a metaclass may refuse
        return False
