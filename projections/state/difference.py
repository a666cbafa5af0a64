"""The difference of two trees, as operations that turn one into the other.

Values are the same only if their types are, as `same_value` has it: True is not 1, 0.0 is not -0.0, NaN
is NaN. The order of keys does not count. The operations share the values of the new tree: write or apply
them, but do not change them.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from duramen.events import PlainData
from duramen.events.model import same_value

from .missing import MISSING, Missing
from .operations import Op

_Compared: TypeAlias = tuple[list[Op], int, int]
"""Operations, their weight together, and the weight of the new value: estimates of their encoded sizes."""

_SCALAR: Final = 2
_CONTAINER: Final = 2


def difference(old: dict[str, PlainData], new: dict[str, PlainData]) -> list[Op]:
    """Return operations that turn `old` into `new`; none if they are the same.

    Unchanged values are not in them, except in a container of which so much changed that setting the
    whole of it is smaller. Lists are compared position by position: without its first element, a list is
    another one.
    """
    return _compare_dicts([], old, new)[0]


def overlay(current: dict[str, PlainData], checkpoint: dict[str, PlainData]) -> list[Op]:
    """Return operations that make each top-level item what it is in the checkpoint; other items stay."""
    return _compare_items([], current, checkpoint)[0]


def _compare(path: list[PlainData], old: PlainData | Missing, new: PlainData) -> _Compared:
    """Compare what is at one path; `path` is changed on the way and restored."""
    if type(old) is dict and type(new) is dict:
        compared = _compare_dicts(path, old, new)
    elif type(old) is list and type(new) is list:
        compared = _compare_lists(path, old, new)
    else:
        weight = _weigh(new)
        is_same = old is not MISSING and same_value(old, new)
        return ([], 0, weight) if is_same else _set(path, new, weight)
    ops, changes, weight = compared
    whole = _set(path, new, weight)
    return whole if ops and changes > whole[1] else compared


def _compare_dicts(path: list[PlainData], old: dict[str, PlainData], new: dict[str, PlainData]) -> _Compared:
    deletions: list[Op] = [["delete", [*path, key]] for key in old if key not in new]
    ops, changes, weight = _compare_items(path, old, new)
    return deletions + ops, changes + sum(map(_weigh, deletions)), weight


def _compare_items(path: list[PlainData], old: dict[str, PlainData], new: dict[str, PlainData]) -> _Compared:
    ops: list[Op] = []
    changes = 0
    weight = _CONTAINER
    for key, value in new.items():
        path.append(key)
        below, below_changes, below_weight = _compare(path, old.get(key, MISSING), value)
        path.pop()
        ops += below
        changes += below_changes
        weight += below_weight + _weigh(key)
    return ops, changes, weight


def _compare_lists(path: list[PlainData], old: list[PlainData], new: list[PlainData]) -> _Compared:
    ops: list[Op] = []
    changes = 0
    weight = _CONTAINER
    for index, (before, after) in enumerate(zip(old, new, strict=False)):
        path.append(index)
        below, below_changes, below_weight = _compare(path, before, after)
        path.pop()
        ops += below
        changes += below_changes
        weight += below_weight
    if len(old) == len(new):
        return ops, changes, weight
    tail: Op
    if len(old) > len(new):
        tail = ["truncate", path.copy(), len(new)]
    else:
        tail = ["extend", path.copy(), new[len(old) :]]
        weight += _weigh(tail[2])
    return [*ops, tail], changes + _weigh(tail), weight


def _set(path: list[PlainData], value: PlainData, weight: int) -> _Compared:
    return [["set", path.copy(), value]], _weigh(path) + weight + _weigh("set"), weight


def _weigh(value: PlainData) -> int:
    """Estimate the encoded size."""
    if type(value) is str or type(value) is bytes:
        return _SCALAR + len(value)
    if type(value) is dict:
        return _CONTAINER + sum(_weigh(key) + _weigh(child) for key, child in value.items())
    if type(value) is list:
        return _CONTAINER + sum(map(_weigh, value))
    return _SCALAR
