"""Progress of a long operation, on stderr: a bar on a terminal after a second, else a line every five seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Timer
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from duramen.events.model import count_of

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS: Final = 5.0
"""Seconds between two lines."""
_DELAY: Final = 1.0
"""Seconds after which a bar appears: what is done by then needs none."""


class Advance(Protocol):
    """Shows how many of how many are done, `total` None where the end is not known. For one thread."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


@contextmanager
def show_progress(
    what: str, *, bar: bool, clock: Callable[[], float] = monotonic, delay: float = _DELAY
) -> Generator[Advance]:
    """Yield a function that shows the numbers of `what`, a noun in the singular.

    A `bar` needs rich, and appears on a terminal only, after `delay` seconds.
    """
    stream = sys.stderr
    if bar and stream.isatty():
        with _bar(what, stream, delay) as advance:
            yield advance
    else:
        yield _lines(what, stream, clock)


@contextmanager
def show_waiting(doing: str, *, bar: bool, delay: float = _DELAY) -> Generator[None]:
    """Show what a call without numbers of its own does, and since when: on a terminal, after `delay` seconds."""
    if not (bar and sys.stderr.isatty()):
        yield
        return
    shown = _make_bar(sys.stderr)
    shown.add_task(doing, total=None, label=doing)
    with _shown_after(shown, delay):
        yield


@contextmanager
def _bar(what: str, stream: TextIO, delay: float) -> Generator[Advance]:
    shown = _make_bar(stream)
    task = shown.add_task(what, total=None, label=_label(what, 0, None, ""))

    def advance(done: int, total: int | None, note: str = "") -> None:
        shown.update(task, completed=done, total=total, label=_label(what, done, total, note))

    with _shown_after(shown, delay):
        yield advance


def _make_bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.fields[label]}", markup=False), TimeElapsedColumn())
    return Progress(*columns, console=Console(file=stream), transient=True)


@contextmanager
def _shown_after(shown: Progress, delay: float) -> Generator[None]:
    """Show a bar once the block has taken so many seconds, and wipe it at the end of the block."""
    begins = Timer(delay, shown.start)
    begins.daemon = True
    begins.start()
    try:
        yield
    finally:
        begins.cancel()
        begins.join()
        shown.stop()


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
