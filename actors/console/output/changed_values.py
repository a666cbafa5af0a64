"""The values that an event has changed, as text and as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from duramen.events import Event, property_segments
from duramen.events.codec import RawEvent
from duramen.events.model import join_text, same_value
from duramen.events.model import vocabulary as v
from duramen.projections import MISSING, PastState
from duramen.projections.state import ReadOnlyDict, ReadOnlyList, changed_paths

from .as_json import to_json
from .output import Output, join_texts, text
from .printable import shorten

if TYPE_CHECKING:
    from rich.text import Text

Changes: TypeAlias = dict[str, tuple[Any, Any]]
"""Old and new value (or MISSING) by property path. A subtree that was added or removed as a whole is one entry."""

_BRIEF: Final = 100
_MOST: Final = 50


def find_changes(event: Event, before: PastState, after: PastState) -> Changes:
    """The changes of an event in working memory. Compares what the event names, not the whole memory."""
    if event.type in (v.SPAWNED, v.TERMINATED):
        return dict(find_differences((), before.memory, after.memory))
    if event.type == v.MEMORY_APPENDED:
        return dict(_appended(property_segments(event.data["path"]), before, after))
    raw: RawEvent = [event.type, event.version, int(event.granularity), 0, event.data, *[None] * 5]
    found: Changes = {}
    for changed in changed_paths(event.agent, event.seq, raw):
        path = _common_path(changed.segments, before, after)
        found.update(find_differences(path, _value_at(before.memory, path), _value_at(after.memory, path)))
    return found


def _common_path(segments: tuple[str, ...], before: PastState, after: PastState) -> tuple[str, ...]:
    """The longest part of a path above which both states have a dict or list."""
    old: Any = before.memory
    new: Any = after.memory
    for length, segment in enumerate(segments):
        if not all(isinstance(value, ReadOnlyDict | ReadOnlyList) for value in (old, new)):
            return segments[:length]
        old, new = _value_at(old, (segment,)), _value_at(new, (segment,))
    return segments


def _appended(path: tuple[str, ...], before: PastState, after: PastState) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The values that were added to a list, without comparing a long list with itself."""
    old, new = _value_at(before.memory, path), _value_at(after.memory, path)
    if not isinstance(old, ReadOnlyList) or not isinstance(new, ReadOnlyList):
        path = _common_path(path, before, after)
        yield from find_differences(path, _value_at(before.memory, path), _value_at(after.memory, path))
        return
    for index in range(len(old), len(new)):
        yield join_text((*path, str(index))), (MISSING, new[index])


def _value_at(value: Any, segments: Iterable[str]) -> Any:
    """The value at a path, or MISSING."""
    for segment in segments:
        if isinstance(value, ReadOnlyDict) and segment in value:
            value = value[segment]
        elif isinstance(value, ReadOnlyList) and segment.isdecimal() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return MISSING
    return value


def find_differences(path: tuple[str, ...], old: Any, new: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The paths at which two read-only values differ, with both. Lists are compared position by position."""
    if isinstance(old, ReadOnlyDict) and isinstance(new, ReadOnlyDict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from find_differences((*path, key), old.get(key, MISSING), new.get(key, MISSING))
    elif isinstance(old, ReadOnlyList) and isinstance(new, ReadOnlyList):
        for index in range(max(len(old), len(new))):
            segment = str(index)
            yield from find_differences((*path, segment), _value_at(old, (segment,)), _value_at(new, (segment,)))
    elif old is MISSING or new is MISSING:
        if old is not new:
            yield join_text(path), (old, new)
    elif not same_value(_plain(old), _plain(new)):
        yield join_text(path), (old, new)


def _plain(value: Any) -> Any:
    """The value as plain data."""
    return value.plain() if isinstance(value, ReadOnlyDict | ReadOnlyList) else value


def changes_data(changed: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """`old` and `new` by path, for programs; a missing value is left out."""
    return {
        path: {name: _plain(value) for name, value in (("old", old), ("new", new)) if value is not MISSING}
        for path, (old, new) in changed.items()
    }


def show_changes(changed: Iterable[tuple[str, tuple[Any, Any]]], output: Output) -> None:
    """Print a line a change, to stand below the line of the event."""
    lines = iter(changed)
    for path, (old, new) in islice(lines, _MOST):
        output.line(join_texts(text("        "), change_line(path, old, new)))
    more = sum(1 for _ in lines)
    if more:
        output.line(text(f"        … {more:,} more", "dim"))


def change_line(path: str, old: Any, new: Any, *, whole: bool = False) -> Text:
    """A change in a line: `+` added, `-` removed, `~` changed; its values are shortened unless `whole`."""
    name, show = path or "(all)", _whole_value if whole else shorten_value
    if old is MISSING:
        return text(f"+ {name}: {show(new)}", "green")
    if new is MISSING:
        return text(f"- {name}: {show(old)}", "red")
    return join_texts(text(f"~ {name}: {show(old)} → ", "yellow"), text(show(new), "bold yellow"))


def _whole_value(value: Any) -> str:
    return to_json(_plain(value), for_people=True)


def shorten_value(value: Any) -> str:
    """A value as JSON in a line, cut to its first 100 characters."""
    held = value[:_BRIEF] if type(value) is str else _plain(value)
    return shorten(to_json(held, for_people=True), _BRIEF)
