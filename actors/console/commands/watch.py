"""`duramen watch`: what agents do, while they do it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Final

from duramen.events import Cursor, Granularity, PathPattern
from duramen.events.model import split_text
from duramen.projections import Change
from duramen.projections.state import read_only

from ..arguments import Options
from ..exit_codes import ExitCode
from ..interruption import interruption
from ..opening import opened
from ..output import Output, changes_data, differing, event_data, event_line, show_changes

__all__ = ["watch"]

_LOOK: Final = 0.2
"""Seconds until an interruption is seen while nothing happens."""
_PAGE: Final = 500


def watch(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Changes as they are committed, until interrupted or `limit` were shown; then says where to go on."""
    pattern = PathPattern.parse(arguments.pattern)
    after = None if arguments.after is None else Cursor.from_text(arguments.after)
    left: int | None = arguments.limit
    with (
        opened(options) as system,
        interruption() as stop,
        system.subscribe(
            pattern,
            granularity=Granularity[arguments.granularity.upper()],
            after=after,
            from_start=arguments.from_start,
            values=arguments.values,
            latest_only=arguments.latest_only,
            every=arguments.every,
        ) as changes,
    ):
        sys.stderr.write(f"duramen: watching {pattern.text}; Ctrl-C ends\n")
        sys.stderr.flush()
        while not stop.asked and left != 0:
            for change in changes.take(_PAGE if left is None else min(_PAGE, left), _LOOK):
                _show(change, output)
                left = None if left is None else left - 1
            sys.stdout.flush()
        cursor = changes.cursor
    sys.stderr.write(f"duramen: go on from here with --after {cursor.to_text()}\n")
    return ExitCode.OK if left == 0 else ExitCode.INTERRUPTED


def _show(change: Change, output: Output) -> None:
    if output.as_json:
        output.data_line(_data(change))
        return
    output.line(event_line(change.event, agent=True))
    show_changes(_differing(change), output)


def _differing(change: Change) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for path, (old, new) in (change.values or {}).items():
        yield from differing(split_text(path, "property path"), read_only(old), read_only(new))


def _data(change: Change) -> dict[str, Any]:
    told = {
        "agent": change.agent,
        "seq": change.seq,
        "paths": change.paths,
        "event": event_data(change.event),
    }
    return told if change.values is None else {**told, "values": changes_data(change.values)}
