"""How far something long has come: a bar on a terminal, now and then a line elsewhere. All of it goes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final, Protocol, TextIO

__all__ = ["Advance", "counting"]

_SECONDS: Final = 5.0
"""Between two lines."""


class Advance(Protocol):
    """Tells how many of how many are done; None where the end is not known. From one thread."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


@contextmanager
def counting(what: str, *, bar: bool, clock: Callable[[], float] = monotonic) -> Generator[Advance]:
    """Yields what is to be called with the numbers of `what`. `bar` needs rich; it is used on a terminal only."""
    stream = sys.stderr
    if bar and stream.isatty():
        with _bar(what, stream) as advance:
            yield advance
    else:
        yield _lines(what, stream, clock)


@contextmanager
def _bar(what: str, stream: TextIO) -> Generator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as shown:
        task = shown.add_task(what, total=None, told=what)

        def advance(done: int, total: int | None, note: str = "") -> None:
            shown.update(task, completed=done, total=total, told=_told(what, done, total, note))

        yield advance


def _lines(what: str, stream: TextIO, clock: Callable[[], float]) -> Advance:
    told_at = clock()

    def advance(done: int, total: int | None, note: str = "") -> None:
        nonlocal told_at
        now = clock()
        if now - told_at >= _SECONDS:
            told_at = now
            stream.write(f"{_told(what, done, total, note)}\n")
            stream.flush()

    return advance


def _told(what: str, done: int, total: int | None, note: str) -> str:
    return f"{done:,}{'' if total is None else f'/{total:,}'} {what}{f', {note}' if note else ''}"
