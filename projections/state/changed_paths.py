"""Paths of properties that an event changes, found from its data alone, without a state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from duramen.events import PlainData
from duramen.events.model import join_text

from .undo import CONTAINERS

EXACT: Final = 0
"""Only the value at the path itself has changed."""
SHALLOW: Final = 1
"""The value at the path has become a scalar, or has got or lost elements: what was below it may be gone."""
DEEP: Final = 2
"""All values below the path may have changed."""
MERGED: Final = 3
"""A dict was merged into the value at the path: a scalar or a list that was there is gone, with its elements."""

_MOST: Final = 256  # paths of one event; an event with more is given one path for all of them


class ChangedPath(NamedTuple):
    """One path that an event changes, and how far down. A tuple, since each event that is matched makes one."""

    path: str
    segments: tuple[str, ...]
    depth: int


WHOLE: Final = (ChangedPath("", (), DEEP),)


def depth_of(*values: PlainData) -> int:
    """How far down a path changes at which these values are put."""
    return DEEP if any(type(value) in CONTAINERS for value in values) else SHALLOW


def paths_of_deletion(segments: tuple[str, ...]) -> Sequence[ChangedPath]:
    deleted = _changed(segments, DEEP)
    if segments and segments[-1].isdecimal():  # perhaps an element of a list: those after it have moved up
        return (deleted, _changed(segments[:-1], SHALLOW))
    return (deleted,)


def paths_of_items(items: dict[str, PlainData]) -> Sequence[ChangedPath]:
    found = _up_to_most(_changed((key,), depth_of(value)) for key, value in items.items())
    return WHOLE if found is None else found


def paths_of_patch(segments: tuple[str, ...], patch: PlainData) -> Sequence[ChangedPath]:
    found = _up_to_most(_paths_in_patch(segments, patch))
    return (_changed(segments, DEEP),) if found is None else found


def paths_of_ops(ops: list[list[Any]]) -> Sequence[ChangedPath]:
    found = _up_to_most(changed for op in ops for changed in _of_op(op))
    return WHOLE if found is None else found


def _paths_in_patch(segments: tuple[str, ...], patch: PlainData) -> Iterator[ChangedPath]:
    if type(patch) is dict and patch:
        if segments:  # the root stays a dict
            yield _changed(segments, MERGED)
        for key, value in patch.items():
            yield from _paths_in_patch((*segments, key), value)
    elif patch is None:
        yield _changed(segments, DEEP)
    else:
        yield _changed(segments, DEEP if type(patch) is list else SHALLOW)


def _of_op(op: list[Any]) -> Sequence[ChangedPath]:
    kind, path = op[0], cast("list[str | int]", op[1])
    if -1 in path:  # the last element, whichever that is: its list has changed
        return (_changed(tuple(map(str, path[: path.index(-1)])), DEEP),)
    segments = tuple(map(str, path))
    if kind == "delete":
        return paths_of_deletion(segments)
    if kind == "extend":
        return (_changed(segments, depth_of(*op[2])),)
    return (_changed(segments, depth_of(op[2]) if kind == "set" else DEEP),)


def _changed(segments: tuple[str, ...], depth: int) -> ChangedPath:
    return ChangedPath(join_text(segments), segments, depth)


def _up_to_most(found: Iterable[ChangedPath]) -> list[ChangedPath] | None:
    """The paths; None if there are too many."""
    paths: list[ChangedPath] = []
    for path in found:
        if len(paths) == _MOST:
            return None
        paths.append(path)
    return paths
