"""How far a run is: a bar on a terminal, now and then a line elsewhere. All of it goes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final, TextIO

from .ingestion import Totals

__all__ = ["progress"]

OnProgress = Callable[[Totals], None]

_SECONDS: Final = 5.0
"""Between two lines."""


@contextmanager
def progress(
    sessions: int, messages: int, *, bar: bool, clock: Callable[[], float] = monotonic
) -> Generator[OnProgress]:
    """Yields what is to be called with the totals, from one thread. `bar` needs rich; it is used on a terminal only."""
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
    told_at = clock()

    def advance(totals: Totals) -> None:
        nonlocal told_at
        now = clock()
        if now - told_at < _SECONDS:
            return
        told_at = now
        stream.write(
            f"{totals.sessions}/{sessions} sessions, {totals.messages}/{messages} messages, "
            f"{totals.events} events added\n"
        )
        stream.flush()

    return advance
