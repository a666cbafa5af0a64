"""A value as text, the same in every process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from datetime import datetime
from enum import Enum
from typing import Any, Final, cast

import attrs

_PLAIN: Final = (str, int, float, bytes, bool, type(None))


def portrait(value: object) -> str:
    """The value as one line of text, the same in every process; equal texts mean equal values and types.

    Stricter than `==` (True is not 1, 0.0 is not -0.0, a tuple is no list) except that NaN is NaN. Mappings and sets
    are sorted, since their order is no part of their value. Plain data, collections, attrs and data classes, enums and
    objects with attributes are written with their contents; other objects as their `repr`, or as their type where
    `repr` would show an address.
    """
    return _draw(value, frozenset())


def same(a: object, b: object) -> bool:
    """Whether two values have the same portrait."""
    return a is b or portrait(a) == portrait(b)


def _draw(value: Any, above: frozenset[int]) -> str:
    if type(value) in _PLAIN:
        return repr(value)
    if id(value) in above:
        return "..."
    above |= {id(value)}
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, datetime):
        return f"datetime.fromisoformat({value.isoformat()!r})"
    collection = _collection(value, above)
    return _object(value, above) if collection is None else collection


def _collection(value: Any, above: frozenset[int]) -> str | None:
    kind = _kind(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        text = "{" + ", ".join(sorted(f"{_draw(key, above)}: {_draw(item, above)}" for key, item in pairs)) + "}"
        return text if kind is dict else f"{kind.__name__}({text})"
    if isinstance(value, Set):
        text = "{" + ", ".join(sorted(_draw(item, above) for item in cast("Set[Any]", value))) + "}"
        return text if kind is set else f"{kind.__name__}({text})"
    if isinstance(value, list | tuple):
        text = ", ".join(_draw(item, above) for item in cast("list[Any]", value))
        if kind is list:
            return f"[{text}]"
        if kind is tuple:
            return f"({text},)" if len(cast("tuple[Any, ...]", value)) == 1 else f"({text})"
        return f"{kind.__name__}({text})"
    return None


def _object(value: Any, above: frozenset[int]) -> str:
    kind = _kind(value)
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", kind.__qualname__))
    fields = _fields(value)
    if fields is None and "__repr__" in {name for above in kind.__mro__[:-1] for name in vars(above)}:
        return repr(value)
    shown = ", ".join(f"{name}={_draw(item, above)}" for name, item in (fields or {}).items())
    return f"{kind.__name__}({shown})"


def _kind(value: object) -> type[Any]:
    return type(value)


def _fields(value: Any) -> dict[str, Any] | None:
    kind = _kind(value)
    if attrs.has(kind):
        return {field.name: getattr(value, field.name, None) for field in attrs.fields(kind)}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    found: dict[str, Any] | None = getattr(value, "__dict__", None)
    return None if found is None else dict(sorted(found.items()))
