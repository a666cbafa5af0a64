"""Which properties an event changes, as the event alone tells: no state is needed, so any reader can ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from duramen.events import CorruptEvent, DuramenError, PlainData, property_segments
from duramen.events.codec import RawEvent
from duramen.events.model import (
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_RESTORED,
    MEMORY_SET,
    SPAWNED,
    TERMINATED,
    join_text,
)

from .undo import CONTAINERS

__all__ = ["BELOW", "BESIDE", "HERE", "Touch", "touches"]

HERE: Final = 0
"""Only what is at the path itself has changed."""
BESIDE: Final = 1
"""What is at the path has become a scalar, or has got or lost elements: what was below it may be gone."""
BELOW: Final = 2
"""All that is below the path may have changed."""

_MOST: Final = 256  # paths told of one event; one that changes more has changed the whole


class Touch(NamedTuple):
    """One path that an event changes, and how far down. A tuple, since one is made for each event that is looked at."""

    path: str
    segments: tuple[str, ...]
    depth: int


_WHOLE: Final = (Touch("", (), BELOW),)


def touches(agent: str, seq: int, raw: RawEvent) -> Sequence[Touch]:
    """The paths that an event names, in its order; none for one that changes no property.

    Raises CorruptEvent for one of ours whose data has not the form of its type.
    """
    found = _TOUCHES.get(raw[0])
    if found is None:
        return ()
    try:
        return found(raw[4])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, DuramenError) as error:
        raise CorruptEvent(
            f"event {seq} of {agent} has data of another form ({type(error).__name__})", agent=agent, seq=seq
        ) from None


def _set(data: dict[str, Any]) -> Sequence[Touch]:
    path: str = data["path"]
    return (Touch(path, property_segments(path), BELOW if type(data["value"]) in CONTAINERS else BESIDE),)


def _deleted(data: dict[str, Any]) -> Sequence[Touch]:
    path: str = data["path"]
    return _without(property_segments(path))


def _appended(data: dict[str, Any]) -> Sequence[Touch]:
    path: str = data["path"]
    return (Touch(path, property_segments(path), _depth_of(data["values"])),)


def _merged(data: dict[str, Any]) -> Sequence[Touch]:
    segments = property_segments(data["path"])
    found = _up_to_most(_leaves(segments, data["patch"]))
    if found is None:
        return (Touch(data["path"], segments, BELOW),)
    if not segments or found[:1] == [_touch(segments, found[0].depth)]:
        return found
    return [_touch(segments, HERE), *found]


def _leaves(segments: tuple[str, ...], patch: PlainData) -> Iterator[Touch]:
    if type(patch) is dict and patch:
        for key, value in patch.items():
            yield from _leaves((*segments, key), value)
    elif patch is None:
        yield _touch(segments, BELOW)
    else:
        yield _touch(segments, BELOW if type(patch) is list else BESIDE)


def _restored(data: dict[str, Any]) -> Sequence[Touch]:
    found = _up_to_most(touch for op in data["ops"] for touch in _of_op(op))
    return _WHOLE if found is None else found


def _of_op(op: list[Any]) -> Sequence[Touch]:
    kind, path = op[0], cast("list[str | int]", op[1])
    if -1 in path:  # the last element, whichever that is: its list has changed
        return (_touch(tuple(map(str, path[: path.index(-1)])), BELOW),)
    segments = tuple(map(str, path))
    if kind == "delete":
        return _without(segments)
    if kind == "extend":
        return (_touch(segments, _depth_of(op[2])),)
    if kind == "set" and type(op[2]) not in CONTAINERS:
        return (_touch(segments, BESIDE),)
    return (_touch(segments, BELOW),)


def _spawned(data: dict[str, Any]) -> Sequence[Touch]:
    memory: dict[str, Any] = data["memory"]
    found = _up_to_most(_touch((key,), BELOW if type(value) in CONTAINERS else BESIDE) for key, value in memory.items())
    return _WHOLE if found is None else found


def _terminated(data: dict[str, Any]) -> Sequence[Touch]:
    return _WHOLE if data["cleared"] else ()


def _without(segments: tuple[str, ...]) -> Sequence[Touch]:
    gone = _touch(segments, BELOW)
    if segments and segments[-1].isdecimal():  # perhaps an element of a list: those after it have moved up
        return (gone, _touch(segments[:-1], BESIDE))
    return (gone,)


def _depth_of(values: list[Any]) -> int:
    return BELOW if any(type(value) in CONTAINERS for value in values) else BESIDE


def _touch(segments: tuple[str, ...], depth: int) -> Touch:
    return Touch(join_text(segments), segments, depth)


def _up_to_most(found: Iterable[Touch]) -> list[Touch] | None:
    kept: list[Touch] = []
    for touch in found:
        if len(kept) == _MOST:
            return None
        kept.append(touch)
    return kept


_TOUCHES: Final[dict[str, Callable[[dict[str, Any]], Sequence[Touch]]]] = {
    MEMORY_SET: _set,
    MEMORY_DELETED: _deleted,
    MEMORY_APPENDED: _appended,
    MEMORY_MERGED: _merged,
    MEMORY_RESTORED: _restored,
    SPAWNED: _spawned,
    TERMINATED: _terminated,
}
