"""One step of a replay on a screen: the event on the left, the state after it on the right, changes in colour."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from duramen.events import Event
from duramen.events.model import join_text
from duramen.projections import MISSING, PastState
from duramen.projections.state import ReadOnlyDict, ReadOnlyList

from .changed_values import Changes, change_line, find_changes, shorten_value
from .event_text import event_lines
from .output import STYLES, format_time, join_texts, text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_KEYS: Final = "→ next  ← back  ↑↓ scroll  w whole values  PgDn/PgUp ten  Home/End  q ends"
_NEAR: Final = 3
"""Entries of a long list or dict that are shown at each end and around each change."""
_MOST: Final = 2_000
"""Lines of state at most."""
_SPARE: Final = 3
"""Lines of the screen for title, rule and keys."""


class StepView:
    """The screen of one step. Not thread-safe."""

    def __init__(
        self, event: Event, before: PastState, after: PastState, first: int, last: int, *, whole: bool = False
    ) -> None:
        self.event = event
        self.whole = whole
        """Whether the event and its changes fill the screen, with every value to its end, in place of the state."""
        self.scrolled: int | None = None
        """Lines of state above the screen; None before the first scroll: the first change is in sight."""
        self._after = after
        self._place = first, last
        self._changed = find_changes(event, before, after)
        self._state = _state_lines(after, self._changed)
        self._top = 0
        self._length = len(self._state)

    def scroll(self, lines: int) -> None:
        """Move the state, or the whole event, by `lines` lines."""
        self.scrolled = max(0, min(self._top + lines, self._length - 1))
        self._top = self.scrolled

    def toggle_whole(self) -> None:
        """Show the whole event and its changes, or the state again."""
        self.whole, self.scrolled, self._top = not self.whole, None, 0

    def lines(self, columns: int, rows: int) -> list[str]:
        """The screen as `rows` lines of at most `columns` columns, with colours."""
        from rich.console import Console

        room = max(1, rows - _SPARE)
        console = Console(
            file=StringIO(), force_terminal=True, width=columns, markup=False, highlight=False, emoji=False
        )
        with console.capture() as captured:
            console.print(self._title(), no_wrap=True, overflow="ellipsis")
            console.print(text("─" * (columns - 1), "dim"), no_wrap=True, overflow="crop")
            console.print(self._whole(console, room) if self.whole else self._beside(columns, room))
        shown = captured.get().split("\n")[: rows - 1]
        with console.capture() as captured:
            console.print(text(_KEYS, "dim"), no_wrap=True, overflow="ellipsis", end="")
        return [*shown, *[""] * (rows - 1 - len(shown)), captured.get()]

    def _title(self) -> Text:
        first, last = self._place
        return join_texts(
            text(f"{self.event.agent}  ", "bold"),
            text(f"{self.event.seq} of {first}…{last}  ", "cyan"),
            text(f"{format_time(self.event.time)}  ", "dim"),
            text(self._after.status, STYLES.get(self._after.status, "")),
        )

    def _beside(self, columns: int, room: int) -> RenderableType:
        """The event on the left, the state on the right, each line cut where its side ends."""
        from rich.table import Table

        left = max(20, columns * 2 // 5)
        table = Table.grid(padding=(0, 1))
        table.add_column(width=left, no_wrap=True, overflow="ellipsis")
        table.add_column(width=max(10, columns - left - 3), no_wrap=True, overflow="ellipsis")
        table.add_row(_join_lines(event_lines(self.event)[:room]), _join_lines(self._visible(room)))
        self._length = len(self._state)
        return table

    def _whole(self, console: Console, room: int) -> Text:
        """The event and its changes, in lines that are broken and not cut."""
        changes = [change_line(path, old, new, whole=True) for path, (old, new) in self._changed.items()]
        whole = _join_lines([*event_lines(self.event), text(""), *changes])
        lines = list(whole.wrap(console, console.width - 1, overflow="fold"))
        self._length = len(lines)
        return _join_lines(lines[self._top : self._top + room])

    def _visible(self, room: int) -> list[Text]:
        if self.scrolled is None:
            at = next((index for index, (_, changed) in enumerate(self._state) if changed), 0)
            self._top = 0 if at < room else at - room // 3
        return [line for line, _ in self._state[self._top : self._top + room]]


def _join_lines(lines: list[Text]) -> Text:
    from rich.text import Text

    return Text("\n").join(lines)


# -- the state ---------------------------------------------------------------------------------------------------------

_Line = tuple["Text", bool]
"""The line, and whether it shows a change."""


def _state_lines(state: PastState, changed: Changes) -> list[_Line]:
    above: set[str] = set()
    for path in changed:
        parts = path.split("/")
        above.update("/".join(parts[:length]) for length in range(len(parts)))
    found: list[_Line] = []
    for line in _lines(state.memory, (), changed, above):
        found.append(line)
        if len(found) == _MOST:
            return [*found, (text("…", "dim"), False)]
    return found or [(text("working memory is empty", "dim"), False)]


def _lines(value: Any, path: tuple[str, ...], changed: Changes, above: set[str]) -> Iterator[_Line]:
    """The entries of a dict or list, and after them those that were removed from it."""
    indent = "  " * len(path)
    keys = list(value) if isinstance(value, ReadOnlyDict) else [str(index) for index in range(len(value))]
    for key in _keys_near(keys, path, changed, above):
        if key is None:
            yield text(f"{indent}…", "dim"), False
            continue
        here = (*path, key)
        held = value[key] if isinstance(value, ReadOnlyDict) else value[int(key)]
        yield from _line(held, here, changed, above, indent)
    parent = join_text(path)
    for name, (old, new) in changed.items():
        if new is MISSING and name and name.rpartition("/")[0] == parent:
            last = name.rpartition("/")[2]
            yield join_texts(text(indent), change_line(last, old, new)), True


def _line(held: Any, here: tuple[str, ...], changed: Changes, above: set[str], indent: str) -> Iterator[_Line]:
    name, key = join_text(here), here[-1]
    inside = isinstance(held, ReadOnlyDict | ReadOnlyList) and len(held) > 0
    kind = f"{key} ({len(held)})" if isinstance(held, ReadOnlyList) else key
    if name in changed:
        old, new = changed[name]
        added = inside and old is MISSING
        line = text(f"+ {kind}", "green") if added else change_line(key, old, new)
        yield join_texts(text(indent), line), True
    elif inside:
        yield text(f"{indent}{kind}", "dim"), False
    else:
        yield join_texts(text(f"{indent}{key}: ", "dim"), text(shorten_value(held))), False
    if inside:
        yield from _lines(held, here, changed, above)


def _keys_near(keys: list[str], path: tuple[str, ...], changed: Changes, above: set[str]) -> Iterator[str | None]:
    """The keys that are shown; None stands for a gap."""
    if len(keys) <= 4 * _NEAR:
        yield from keys
        return
    near = {*range(_NEAR), *range(len(keys) - _NEAR, len(keys))}
    for index, key in enumerate(keys):
        name = join_text((*path, key))
        if name in changed or name in above:
            near.update(range(index - 1, index + 2))
    last = -1
    for index in sorted(index for index in near if 0 <= index < len(keys)):
        if index != last + 1:
            yield None
        yield keys[index]
        last = index
