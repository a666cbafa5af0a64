"""Strategies for the fields of an event, from their annotations."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from duramen.events import InvalidMessage, PlainData

from .values import instants, integers, texts, values

Fields = Mapping[str, SearchStrategy[Any]]
"""Strategies of your own, by the name of the constructor's argument."""

_SIMPLE: Final[dict[Any, Callable[[], SearchStrategy[Any]]]] = {
    str: texts,
    bool: st.booleans,
    int: integers,
    float: st.floats,
    bytes: lambda: st.binary(max_size=12),
    datetime: instants,
    type(None): st.none,
    Any: lambda: values(max_leaves=5),
    object: lambda: values(max_leaves=5),
    PlainData: lambda: values(max_leaves=5),
}
_PLAIN: Final = {bool, int, float, str, bytes, datetime, type(None)}
_LISTS: Final = (list, Sequence, MutableSequence)
_DICTS: Final = (dict, Mapping, MutableMapping)


def fields_of(cls: type[Any], own: Fields | None = None) -> dict[str, SearchStrategy[Any]]:
    """A strategy for each argument of an attrs class: from `own`, or from the field's annotation.

    Raises InvalidMessage for a field not in `own` whose annotation has no strategy.
    """
    given = dict(own or {})
    hints = _hints(cls)
    found: dict[str, SearchStrategy[Any]] = {}
    for field in attrs.fields(cls):
        name = field.alias or field.name
        if not field.init:
            continue
        found[name] = given[name] if name in given else _field(cls, name, hints.get(field.name, field.type))
    unknown = sorted(set(given) - set(found))
    if unknown:
        raise InvalidMessage(f"{cls.__qualname__} has no field {unknown[0]!r}; it has {', '.join(sorted(found))}")
    return found


def strategy_for(annotation: Any) -> SearchStrategy[Any] | None:
    """A strategy for plain data of an annotation; None for an unknown annotation."""
    simple = _SIMPLE.get(annotation) if _hashable(annotation) else None
    if simple is not None:
        return simple()
    inner = getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)
    if inner is not None:  # a `type` statement or a NewType
        return strategy_for(inner)
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return strategy_for(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        if {argument for argument in arguments if _hashable(argument)} >= _PLAIN:
            return values(max_leaves=5)  # `PlainData`, which is recursive
        return _any_of([strategy_for(argument) for argument in arguments])
    return _container(origin, arguments)


def _container(origin: Any, arguments: tuple[Any, ...]) -> SearchStrategy[Any] | None:
    if origin in _LISTS:
        items = strategy_for(arguments[0]) if arguments else values(max_leaves=3)
        return None if items is None else st.lists(items, max_size=3)
    if origin in _DICTS:
        keys = strategy_for(arguments[0]) if arguments else texts()
        items = strategy_for(arguments[1]) if arguments else values(max_leaves=3)
        return None if keys is None or items is None else st.dictionaries(keys, items, max_size=3)
    return None


def _any_of(found: list[SearchStrategy[Any] | None]) -> SearchStrategy[Any] | None:
    known = [strategy for strategy in found if strategy is not None]
    return st.one_of(known) if len(known) == len(found) else None


def _field(cls: type[Any], name: str, annotation: Any) -> SearchStrategy[Any]:
    try:
        strategy = None if annotation is None else strategy_for(annotation)
    except RecursionError:  # a recursive `type`
        strategy = None
    if strategy is None:
        raise InvalidMessage(
            f"what {cls.__qualname__}.{name} may hold cannot be told from its annotation; give a strategy for it: "
            f"fields={{{cls.__name__}: {{{name!r}: ...}}}}"
        )
    return strategy


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names imported only for type checkers
        return {}


def _hashable(annotation: object) -> bool:
    return cast("object", type(annotation).__hash__) is not None
