"""Printing results: for people with rich, for programs as JSON."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from duramen.events import Receipt

from ..errors import CannotShow
from .as_json import to_json
from .printable import clean
from .progress import show_waiting

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_PIPED_WIDTH: Final = 160
"""Columns of output that does not go to a terminal."""

_HANGING: Final = 10
"""Columns by which the second line of a long one is indented."""

_DEEPER: Final = 4
"""Columns by which the second line of a long line of JSON is indented further than the first."""

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

    def receipt(self, agent: str, receipt: Receipt, done: str) -> None:
        """Print what an agent has committed, as data for programs and as a sentence for people."""
        if self.as_json:
            self.data(receipt._asdict() | {"digest": receipt.digest.hex()})
        else:
            self.line(text(f"{agent}: {done} (seq {receipt.seq})"))

    def waiting(self, doing: str) -> AbstractContextManager[None]:
        """Show, while the block takes longer than a second, what it does. Nothing must be printed in it."""
        return show_waiting(doing, bar=not self.as_json)

    def show(self, *renderables: RenderableType) -> None:
        """Print a result for people."""
        self._print(*renderables)

    def value(self, value: Any) -> None:
        """Print one value for people: a text as it is, anything else as JSON.

        On a terminal, lines of JSON that are too long go on in the next, below their own beginning.
        """
        from rich.text import Text

        shown = value if isinstance(value, str) else to_json(value, indent=2, for_people=True)
        shown = clean(shown, lines=True)
        if not sys.stdout.isatty():
            _write(f"{shown}\n")
        elif isinstance(value, str):
            self.show(Text(shown))
        else:
            console = self._console()
            lines = [_wrapped(Text(line), console, _indent_of(line)) for line in shown.split("\n")]
            self._print(Text("\n").join(lines))

    def line(self, renderable: Text, *, wrap: bool = True, aligned: bool = False) -> None:
        """Print one line for people; on a terminal that is too narrow it goes on in the next, indented.

        An `aligned` one goes on below its own beginning. Without `wrap` the terminal breaks it, so that it is still one
        line for who copies it.
        """
        if not sys.stdout.isatty():
            _write(f"{renderable.plain}\n")
        elif not wrap:
            self._print(renderable, soft_wrap=True)
        else:
            indent = _indent_of(renderable.plain) if aligned else _HANGING
            self._print(_wrapped(renderable, self._console(), indent))

    def fits(self, columns: int) -> bool:
        """Whether a line of this width fits beside nothing else; always, where there is no terminal."""
        return not sys.stdout.isatty() or columns <= self._console().width

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


def _indent_of(line: str) -> int:
    """Where a line goes on that begins with spaces: a little to the right of its first character."""
    return len(line) - len(line.lstrip(" ")) + _DEEPER


def _wrapped(renderable: Text, console: Console, indent: int) -> Text:
    """The text in lines that fit, broken between words; all but the first are indented."""
    from rich.text import Text

    indent = min(indent, console.width // 4)
    if renderable.cell_len <= console.width:
        return renderable
    first = renderable.wrap(console, console.width, overflow="fold")[0]
    others = renderable[len(first) :]
    others = others[len(others.plain) - len(others.plain.lstrip()) :]
    lines = [first, *others.wrap(console, console.width - indent, overflow="fold")]
    return Text(f"\n{' ' * indent}").join(lines)


def _write(printed: str) -> None:
    try:
        sys.stdout.write(printed)
    except UnicodeEncodeError:  # a terminal without UTF-8 shows a question mark
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(printed.encode(encoding, "replace").decode(encoding))


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
