"""Printing results: for people with rich, for programs as JSON."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from duramen.events import Receipt

from ..errors import CannotShow
from .as_json import to_json
from .printable import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_PIPED_WIDTH: Final = 160
"""Columns of output that does not go to a terminal."""

_HANGING: Final = 10
"""Columns by which the second line of a long one is indented."""

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

    def show(self, *renderables: RenderableType) -> None:
        """Print a result for people."""
        self._print(*renderables)

    def value(self, value: Any) -> None:
        """Print one value for people: a text as it is, anything else as JSON."""
        from rich.text import Text

        shown = value if isinstance(value, str) else to_json(value, indent=2, for_people=True)
        self.show(Text(clean(shown, lines=True)))

    def line(self, renderable: Text, *, wrap: bool = True) -> None:
        """Print one line for people; on a terminal that is too narrow it goes on in the next, indented.

        Without `wrap` the terminal breaks it, so that it is still one line for who copies it.
        """
        if not sys.stdout.isatty():
            _write(f"{renderable.plain}\n")
        elif not wrap:
            self._print(renderable, soft_wrap=True)
        else:
            self._print(_wrapped(renderable, self._console()))

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


def _wrapped(renderable: Text, console: Console) -> Text:
    """The text in lines that fit, broken between words; all but the first are indented."""
    from rich.text import Text

    indent = min(_HANGING, console.width // 4)
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
