"""Changes of one dict or list that can be undone, with the number of nodes they add.

A node is a scalar or a container; keys are not counted. Every change returns by how much it changed the
number of nodes, and only visits the nodes that it adds and removes. With `undo=None` nothing is noted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeAlias

from duramen.events import PlainData

from .missing import MISSING

Undo: TypeAlias = tuple[Any, int, Any, Any]
"""How to undo one change: container, kind, key, old content. Only this module reads it."""

CONTAINERS: Final = frozenset((dict, list))

_PUT: Final = 0  # container[key] = old
_UNPUT: Final = 1  # del container[key]
_INSERT: Final = 2  # container.insert(key, old)
_CUT: Final = 3  # del container[key:]
_GROW: Final = 4  # container.extend(old)
_REORDER: Final = 5  # bring the dict's keys into the order of `old`

# Noting the order of a dict costs time and memory for each of its keys. Beyond this many it is not noted, so
# that many removals from one large dict stay linear.
_ORDERED_KEYS: Final = 64


def count_nodes(value: PlainData) -> int:
    """Count the scalars and containers of a value, itself included."""
    if type(value) is dict:
        children: Collection[PlainData] = value.values()
    elif type(value) is list:
        children = value
    else:
        return 1
    count = 1 + len(children)
    for child in children:
        if type(child) in CONTAINERS:
            count += count_nodes(child) - 1
    return count


def put_key(container: dict[str, PlainData], key: str, value: PlainData, undo: list[Undo] | None) -> int:
    """Set a key, new or not."""
    old = container.get(key, MISSING)
    # Most values are scalars: a call for each would cost more than all else here.
    change = count_nodes(value) if type(value) in CONTAINERS else 1
    if old is not MISSING:
        change -= count_nodes(old) if type(old) in CONTAINERS else 1
        if undo is not None:
            undo.append((container, _PUT, key, old))
    elif undo is not None:
        undo.append((container, _UNPUT, key, None))
    container[key] = value
    return change


def put_index(container: list[PlainData], index: int, value: PlainData, undo: list[Undo] | None) -> int:
    """Replace an element that exists."""
    old = container[index]
    change = count_nodes(value) - count_nodes(old)
    if undo is not None:
        undo.append((container, _PUT, index, old))
    container[index] = value
    return change


def drop_key(container: dict[str, PlainData], key: str, undo: list[Undo] | None) -> int:
    """Delete a key that exists."""
    old = container[key]
    change = -count_nodes(old)
    if undo is not None:
        if len(container) <= _ORDERED_KEYS and next(reversed(container)) != key:
            undo.append((container, _REORDER, None, tuple(container)))
        undo.append((container, _PUT, key, old))
    del container[key]
    return change


def drop_index(container: list[PlainData], index: int, undo: list[Undo] | None) -> int:
    """Delete an element that exists; those after it move up."""
    old = container[index]
    change = -count_nodes(old)
    if undo is not None:
        undo.append((container, _INSERT, index, old))
    del container[index]
    return change


def lengthen(container: list[PlainData], values: list[PlainData], undo: list[Undo] | None) -> int:
    """Add elements at the end."""
    change = count_nodes(values) - 1
    if undo is not None:
        undo.append((container, _CUT, len(container), None))
    container.extend(values)
    return change


def shorten(container: list[PlainData], length: int, undo: list[Undo] | None) -> int:
    """Delete the elements from position `length` on."""
    tail = container[length:]
    change = 1 - count_nodes(tail)
    if undo is not None:
        undo.append((container, _GROW, None, tail))
    del container[length:]
    return change


def roll_back(undo: list[Undo], mark: int = 0) -> None:
    """Undo every change noted after position `mark`, latest first, and forget it.

    The tree is then what it was, with the same containers. The order of keys is no part of that promise: in a
    dict of more than 64 keys, a key whose removal is undone stands last.
    """
    while len(undo) > mark:
        container, kind, key, old = undo.pop()
        if kind == _PUT:
            container[key] = old
        elif kind == _UNPUT:
            del container[key]
        elif kind == _CUT:
            del container[key:]
        elif kind == _INSERT:
            container.insert(key, old)
        elif kind == _GROW:
            container.extend(old)
        else:
            for name in old:
                container[name] = container.pop(name)
