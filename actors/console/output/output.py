"""Printing results: for people with rich, for programs as JSON."""

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

__all__ = ["STYLES", "Output", "format_time", "join_texts", "new_table", "text"]

_PIPED_WIDTH: Final = 160
"""Columns of output that does not go to a terminal."""

STYLES: Final = {"running": "green", "paused": "yellow", "terminated": "dim"}


class Output:
    """Prints results to stdout. Raises CannotShow where rich is needed and not installed."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        if not as_json and find_spec("rich") is None:
            raise CannotShow("printing for people needs rich: pip install 'duramen[console]', or use --json")

    def data(self, value: Any) -> None:
        """Print a result for programs."""
        _write(f"{to_json(value, indent=2)}\n")

    def data_line(self, value: Any) -> None:
        """Print one of many results for programs, in a line."""
        _write(f"{to_json(value)}\n")

    def show(self, *renderables: RenderableType) -> None:
        """Print a result for people."""
        self._print(*renderables)

    def line(self, renderable: Text) -> None:
        """Print one line for people: cut at the edge of a terminal, whole elsewhere."""
        if sys.stdout.isatty():
            self._print(renderable, no_wrap=True, overflow="ellipsis")
        else:
            _write(f"{renderable.plain}\n")

    def _print(self, *renderables: RenderableType, **how: Any) -> None:
        console = self._console()
        # Not written by rich, which exits the program at a closed pipe.
        with console.capture() as captured:
            for renderable in renderables:
                console.print(renderable, **how)
        _write(captured.get())

    def _console(self) -> Console:
        """A console that prints every text literally, without markup."""
        from rich.console import Console

        console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _PIPED_WIDTH
        return console


def _write(printed: str) -> None:
    try:
        sys.stdout.write(printed)
    except UnicodeEncodeError:  # a terminal without UTF-8 shows a question mark
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(printed.encode(encoding, "replace").decode(encoding))


def new_table(*names: str) -> Table:
    """An empty table in the style that all commands share."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def text(value: object, style: str = "") -> Text:
    """A cell or line that shows the value literally; control characters are escaped."""
    from rich.text import Text

    return Text("" if value is None else clean(str(value)), style=style)


def join_texts(*parts: Text) -> Text:
    """One line of parts that each keep their own style; with `+` all would get the style of the first."""
    from rich.text import Text

    return Text.assemble(*parts)


def format_time(time: datetime | None) -> str:
    """A time in this machine's zone, to the second; empty for None."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
