"""What the command prints: for people with rich, for programs as JSON."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ..errors import CannotShow
from .as_json import to_json
from .printable import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["STYLES", "Output", "columns", "joined", "local_time", "text"]

_PIPED_WIDTH: Final = 160
"""Columns where no terminal says how many there are: nothing there needs lines to be short."""

STYLES: Final = {"running": "green", "paused": "yellow", "terminated": "dim"}


class Output:
    """Prints results to stdout and complaints to stderr. Raises CannotShow where rich is needed and not installed."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        if not as_json and find_spec("rich") is None:
            raise CannotShow("printing for people needs rich: pip install 'duramen[console]', or use --json")

    def data(self, value: Any) -> None:
        """A result for programs."""
        _write(f"{to_json(value, indent=2)}\n")

    def data_line(self, value: Any) -> None:
        """One of many results for programs, a line each."""
        _write(f"{to_json(value)}\n")

    def show(self, *renderables: RenderableType) -> None:
        """A result for people."""
        self._print(*renderables)

    def line(self, renderable: Text) -> None:
        """One line for people: cut where a terminal ends, whole elsewhere."""
        if sys.stdout.isatty():
            self._print(renderable, no_wrap=True, overflow="ellipsis")
        else:
            _write(f"{renderable.plain}\n")

    def _print(self, *renderables: RenderableType, **how: Any) -> None:
        console = self._console()
        # Written by us and not by rich, which ends the program when nobody reads any more.
        with console.capture() as captured:
            for renderable in renderables:
                console.print(renderable, **how)
        _write(captured.get())

    def _console(self) -> Console:
        """Rich as a printer that takes nothing in a text for markup."""
        from rich.console import Console

        console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _PIPED_WIDTH
        return console


def _write(printed: str) -> None:
    try:
        sys.stdout.write(printed)
    except UnicodeEncodeError:  # an old terminal: better a question mark than nothing
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(printed.encode(encoding, "replace").decode(encoding))


def columns(*names: str) -> Table:
    """An empty table in the style of all."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def text(value: object, style: str = "") -> Text:
    """A cell or line that shows a value as it is and does nothing to the terminal."""
    from rich.text import Text

    return Text("" if value is None else clean(str(value)), style=style)


def joined(*parts: Text) -> Text:
    """One line of parts that each keep their own style; added up with `+` all would get the first one's."""
    from rich.text import Text

    return Text.assemble(*parts)


def local_time(time: datetime | None) -> str:
    """A time as the person at this machine reads it."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
