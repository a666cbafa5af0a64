"""A table that becomes a block a row where the terminal is too narrow for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from .output import text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

_INDENT: Final = 6
_LEAST_TEXT: Final = 24
"""Columns that a column of texts has at least beside the others."""


class Table:
    """Columns side by side, in which no id, number or date is broken; only the columns of `texts` have several lines.

    Where they do not fit, every row is a block: its first cell, and below it the others with their names.
    """

    def __init__(self, *names: str, texts: Collection[str] = (), right: Collection[str] = ()) -> None:
        self._names, self._texts, self._right = names, texts, right
        self._rows: list[tuple[Text, ...]] = []

    def add_row(self, *cells: Text) -> None:
        """Add a row, with a cell for each column or for the first ones."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        table = self._table()
        natural = console.measure(table, options=options.update(width=100_000)).maximum
        spare = sum(max(0, self._width(at) - _LEAST_TEXT) for at, name in enumerate(self._names) if name in self._texts)
        if natural - spare <= options.max_width:
            yield table
        else:
            yield from self._blocks(options.max_width)

    def _width(self, at: int) -> int:
        return max((row[at].cell_len for row in self._rows if at < len(row)), default=0)

    def _table(self) -> RichTable:
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in self._names:
            table.add_column(name, overflow="fold", no_wrap=name not in self._texts)
            table.columns[-1].justify = "right" if name in self._right else "left"
        for row in self._rows:
            table.add_row(*row)
        return table

    def _blocks(self, width: int) -> Iterator[Text]:
        from rich.text import Text

        for row in self._rows:
            yield row[0]
            line = Text(" " * _INDENT)
            for name, cell in zip(self._names[1:], row[1:], strict=False):
                if not cell.plain:
                    continue
                part = Text.assemble(text(f"{name} ", "dim") if name else "", cell)
                if line.plain.strip() and line.cell_len + 3 + part.cell_len > width:
                    yield line
                    line = Text(" " * _INDENT)
                line.append(" · " if line.plain.strip() else "", "dim").append_text(part)
            if line.plain.strip():
                yield line
