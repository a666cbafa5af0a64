"""Progress of a long operation, on stderr: a bar on a terminal, else a line every five seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final, Protocol, TextIO

from .printable import count_of

_SECONDS: Final = 5.0
"""Seconds between two lines."""


class Advance(Protocol):
    """Shows how many of how many are done, `total` None where the end is not known. For one thread."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


@contextmanager
def show_progress(what: str, *, bar: bool, clock: Callable[[], float] = monotonic) -> Generator[Advance]:
    """Yield a function that shows the numbers of `what`, a noun in the singular.

    A `bar` needs rich, and appears on a terminal only.
    """
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
        TextColumn("{task.fields[label]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as shown:
        task = shown.add_task(what, total=None, label=what)

        def advance(done: int, total: int | None, note: str = "") -> None:
            shown.update(task, completed=done, total=total, label=_label(what, done, total, note))

        yield advance


def _lines(what: str, stream: TextIO, clock: Callable[[], float]) -> Advance:
    written_at = clock()

    def advance(done: int, total: int | None, note: str = "") -> None:
        nonlocal written_at
        now = clock()
        if now - written_at >= _SECONDS:
            written_at = now
            stream.write(f"{_label(what, done, total, note)}\n")
            stream.flush()

    return advance


def _label(what: str, done: int, total: int | None, note: str) -> str:
    count = count_of(done, what) if total is None else f"{done:,}/{count_of(total, what)}"
    return f"{count}, {note}" if note else count
