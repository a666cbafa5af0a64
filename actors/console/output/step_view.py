"""One step of the past on a screen: the event on the left, the state after it on the right, what changed in colour."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from duramen.events import Event
from duramen.events.model import join_text
from duramen.projections import MISSING, PastState
from duramen.projections.history import headline
from duramen.projections.state import ReadOnlyDict, ReadOnlyList

from .as_json import to_json
from .changed_values import Changed, brief, change_line, changed_by
from .output import STYLES, joined, local_time, text
from .printable import clean

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["StepView"]

_KEYS: Final = "→ next  ← back  ↑↓ scroll  PgDn/PgUp ten  Home/End first/last  q ends"
_NEAR: Final = 3
"""Of a long list or dict, so many at each end and around each change are shown."""
_MOST: Final = 2_000
"""Lines of state at most."""
_SPARE: Final = 3
"""Lines of the screen for title, rule and keys."""
_DATA: Final = 20_000
"""Characters of an event's data at most."""


class StepView:
    """What is seen of one step. Makes its lines when they are asked for."""

    def __init__(self, event: Event, before: PastState, after: PastState, first: int, last: int) -> None:
        self.event = event
        self.scrolled: int | None = None
        """Lines of state above the screen; None until somebody scrolls: the first change is in sight."""
        self._after = after
        self._place = first, last
        self._changed = changed_by(event, before, after)
        self._state = _state_lines(after, self._changed)
        self._top = 0

    def scroll(self, lines: int) -> None:
        """Move the state by so many lines."""
        self.scrolled = max(0, min(self._top + lines, len(self._state) - 1))
        self._top = self.scrolled

    def lines(self, columns: int, rows: int) -> list[str]:
        """The screen, as lines with colours that fit."""
        from rich.console import Console
        from rich.table import Table

        room = max(1, rows - _SPARE)
        left = max(20, columns * 2 // 5)
        table = Table.grid(padding=(0, 1))
        table.add_column(width=left, no_wrap=True, overflow="ellipsis")
        table.add_column(width=max(10, columns - left - 3), no_wrap=True, overflow="ellipsis")
        table.add_row(_together(self._event_lines()[:room]), _together(self._visible(room)))
        console = Console(
            file=StringIO(), force_terminal=True, width=columns, markup=False, highlight=False, emoji=False
        )
        with console.capture() as captured:
            console.print(self._title(), no_wrap=True, overflow="ellipsis")
            console.print(text("─" * (columns - 1), "dim"), no_wrap=True, overflow="crop")
            console.print(table)
        shown = captured.get().split("\n")[: rows - 1]
        with console.capture() as captured:
            console.print(text(_KEYS, "dim"), no_wrap=True, overflow="ellipsis", end="")
        return [*shown, *[""] * (rows - 1 - len(shown)), captured.get()]

    def _title(self) -> Text:
        first, last = self._place
        return joined(
            text(f"{self.event.agent}  ", "bold"),
            text(f"{self.event.seq} of {first}…{last}  ", "cyan"),
            text(f"{local_time(self.event.time)}  ", "dim"),
            text(self._after.status, STYLES.get(self._after.status, "")),
        )

    def _event_lines(self) -> list[Text]:
        event = self.event
        facts = {
            "type": event.type,
            "session": event.session_id,
            "command": event.command_id,
            "cause": event.causation_id,
        }
        told = [text(headline(event), "bold"), text("")]
        told += [joined(text(f"{name:8}", "dim"), text(value)) for name, value in facts.items() if value is not None]
        data = clean(to_json(event.data, indent=2, for_people=True)[:_DATA], lines=True)
        return [*told, text(""), *(text(line) for line in data.split("\n"))]

    def _visible(self, room: int) -> list[Text]:
        if self.scrolled is None:
            at = next((index for index, (_, changed) in enumerate(self._state) if changed), 0)
            self._top = 0 if at < room else at - room // 3
        return [line for line, _ in self._state[self._top : self._top + room]]


def _together(lines: list[Text]) -> Text:
    from rich.text import Text

    return Text("\n").join(lines)


# -- the state ---------------------------------------------------------------------------------------------------------

_Line = tuple["Text", bool]
"""And whether it shows a change."""


def _state_lines(state: PastState, changed: Changed) -> list[_Line]:
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


def _lines(value: Any, path: tuple[str, ...], changed: Changed, above: set[str]) -> Iterator[_Line]:
    """What is in a dict or list; what was removed from it stands behind."""
    indent = "  " * len(path)
    keys = list(value) if isinstance(value, ReadOnlyDict) else [str(index) for index in range(len(value))]
    for key in _shown(keys, path, changed, above):
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
            yield joined(text(indent), change_line(last, old, new)), True


def _line(held: Any, here: tuple[str, ...], changed: Changed, above: set[str], indent: str) -> Iterator[_Line]:
    name, key = join_text(here), here[-1]
    inside = isinstance(held, ReadOnlyDict | ReadOnlyList) and len(held) > 0
    kind = f"{key} ({len(held)})" if isinstance(held, ReadOnlyList) else key
    if name in changed:
        old, new = changed[name]
        added = inside and old is MISSING
        line = text(f"+ {kind}", "green") if added else change_line(key, old, new)
        yield joined(text(indent), line), True
    elif inside:
        yield text(f"{indent}{kind}", "dim"), False
    else:
        yield joined(text(f"{indent}{key}: ", "dim"), text(brief(held))), False
    if inside:
        yield from _lines(held, here, changed, above)


def _shown(keys: list[str], path: tuple[str, ...], changed: Changed, above: set[str]) -> Iterator[str | None]:
    """The keys that are shown; None stands for those between that are not."""
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
