"""Progress of a run, on stderr: a bar on a terminal, else a line every five seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final, TextIO

from .ingestion import Totals

__all__ = ["show_totals"]

OnProgress = Callable[[Totals], None]

_SECONDS: Final = 5.0
"""Seconds between two lines."""


@contextmanager
def show_totals(
    sessions: int, messages: int, *, bar: bool, clock: Callable[[], float] = monotonic
) -> Generator[OnProgress]:
    """Yield a function that shows totals, for one thread. A `bar` needs rich, and appears on a terminal only."""
    stream = sys.stderr
    if bar and stream.isatty():
        with _bar(sessions, messages, stream) as advance:
            yield advance
    else:
        yield _lines(sessions, messages, stream, clock)


@contextmanager
def _bar(sessions: int, messages: int, stream: TextIO) -> Generator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=stream)
    columns = (
        TextColumn("{task.fields[done]}/{task.fields[sessions]} sessions"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("messages · {task.fields[events]} events"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("run", total=messages, done=0, sessions=sessions, events=0)

        def advance(totals: Totals) -> None:
            shown.update(task, completed=totals.messages, done=totals.sessions, events=totals.events)

        yield advance


def _lines(sessions: int, messages: int, stream: TextIO, clock: Callable[[], float]) -> OnProgress:
    written_at = clock()

    def advance(totals: Totals) -> None:
        nonlocal written_at
        now = clock()
        if now - written_at < _SECONDS:
            return
        written_at = now
        stream.write(
            f"{totals.sessions}/{sessions} sessions, {totals.messages}/{messages} messages, "
            f"{totals.events} events added\n"
        )
        stream.flush()

    return advance
