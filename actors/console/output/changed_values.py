"""Which values an event has changed, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from duramen.events import Event, property_segments
from duramen.events.codec import RawEvent
from duramen.events.model import join_text, same_value
from duramen.events.model import vocabulary as v
from duramen.projections import MISSING, PastState
from duramen.projections.state import ReadOnlyDict, ReadOnlyList, touches

from .as_json import to_json
from .output import Output, joined, text
from .printable import shorten

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Changed", "at", "brief", "change_line", "changed_by", "changes_data", "differing", "plain", "show_changes"]

Changed: TypeAlias = dict[str, tuple[Any, Any]]
"""By property path: old and new value, or MISSING. Where a whole subtree came or went, it stands there once."""

_BRIEF: Final = 100
_MOST: Final = 50


def changed_by(event: Event, before: PastState, after: PastState) -> Changed:
    """What an event has changed in working memory. Looks at what the event names, not at all there is."""
    if event.type in (v.SPAWNED, v.TERMINATED):
        return dict(differing((), before.memory, after.memory))
    if event.type == v.MEMORY_APPENDED:
        return dict(_appended(property_segments(event.data["path"]), before, after))
    raw: RawEvent = [event.type, event.version, int(event.granularity), 0, event.data, *[None] * 5]
    found: Changed = {}
    for touch in touches(event.agent, event.seq, raw):
        path = _above(touch.segments, before, after)
        found.update(differing(path, at(before.memory, path), at(after.memory, path)))
    return found


def _above(segments: tuple[str, ...], before: PastState, after: PastState) -> tuple[str, ...]:
    """How far down a path there is something to look into both before and after."""
    old: Any = before.memory
    new: Any = after.memory
    for length, segment in enumerate(segments):
        if not all(isinstance(value, ReadOnlyDict | ReadOnlyList) for value in (old, new)):
            return segments[:length]
        old, new = at(old, (segment,)), at(new, (segment,))
    return segments


def _appended(path: tuple[str, ...], before: PastState, after: PastState) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Only what is new: a long list is not compared with itself."""
    old, new = at(before.memory, path), at(after.memory, path)
    if not isinstance(old, ReadOnlyList) or not isinstance(new, ReadOnlyList):
        path = _above(path, before, after)
        yield from differing(path, at(before.memory, path), at(after.memory, path))
        return
    for index in range(len(old), len(new)):
        yield join_text((*path, str(index))), (MISSING, new[index])


def at(value: Any, segments: Iterable[str]) -> Any:
    """What is at a path, or MISSING."""
    for segment in segments:
        if isinstance(value, ReadOnlyDict) and segment in value:
            value = value[segment]
        elif isinstance(value, ReadOnlyList) and segment.isdecimal() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return MISSING
    return value


def differing(path: tuple[str, ...], old: Any, new: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Where two read-only values differ. Lists are compared position by position."""
    if isinstance(old, ReadOnlyDict) and isinstance(new, ReadOnlyDict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differing((*path, key), old.get(key, MISSING), new.get(key, MISSING))
    elif isinstance(old, ReadOnlyList) and isinstance(new, ReadOnlyList):
        for index in range(max(len(old), len(new))):
            segment = str(index)
            yield from differing((*path, segment), at(old, (segment,)), at(new, (segment,)))
    elif old is MISSING or new is MISSING:
        if old is not new:
            yield join_text(path), (old, new)
    elif not same_value(plain(old), plain(new)):
        yield join_text(path), (old, new)


def plain(value: Any) -> Any:
    """The value as plain data."""
    return value.plain() if isinstance(value, ReadOnlyDict | ReadOnlyList) else value


def changes_data(changed: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """For programs: `old` and `new` by path; the one that is missing is left out."""
    return {
        path: {name: plain(value) for name, value in (("old", old), ("new", new)) if value is not MISSING}
        for path, (old, new) in changed.items()
    }


def show_changes(changed: Iterable[tuple[str, tuple[Any, Any]]], output: Output) -> None:
    """For people: a line a change, below that of the event."""
    lines = iter(changed)
    for path, (old, new) in islice(lines, _MOST):
        output.line(joined(text("        "), change_line(path, old, new)))
    more = sum(1 for _ in lines)
    if more:
        output.line(text(f"        … {more:,} more", "dim"))


def change_line(path: str, old: Any, new: Any) -> Text:
    """For people: `+` added, `-` removed, `~` changed."""
    name = path or "(all)"
    if old is MISSING:
        return text(f"+ {name}: {brief(new)}", "green")
    if new is MISSING:
        return text(f"- {name}: {brief(old)}", "red")
    return joined(text(f"~ {name}: {brief(old)} → ", "yellow"), text(brief(new), "bold yellow"))


def brief(value: Any) -> str:
    """A value in a line, cut where it is long."""
    # Long texts are cut before, and huge trees are not: a JSON of them is made, and thrown away but for its beginning.
    held = value[:_BRIEF] if type(value) is str else plain(value)
    return shorten(to_json(held, for_people=True), _BRIEF)
