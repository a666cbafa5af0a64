"""`duramen watch`: what agents do, while they do it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Final

from duramen.events import Cursor, Granularity, PathPattern
from duramen.events.model import segments_of_text
from duramen.projections import Change
from duramen.projections.state import read_only

from ...arguments import Options, add_granularity, parse_count, parse_seconds
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, changes_data, event_data, event_line, find_differences, show_changes
from ...serving import interruption

_POLL: Final = 0.2
"""Seconds until an interruption is seen while nothing happens."""
_PAGE: Final = 500


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern",
        nargs="?",
        default="**",
        metavar="PATTERN",
        help="agent and property path; * is one segment, ** any number: 'acme/*/plan/**' (default: '**', everything)",
    )
    add_granularity(parser, Granularity.TRACE)
    parser.add_argument("--values", action="store_true", help="show what changed, old and new")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--from-start", action="store_true", help="begin with the first event there is")
    begin.add_argument("--after", metavar="CURSOR", help="go on where another `watch` has ended")
    parser.add_argument("--every", type=parse_seconds, metavar="SECONDS", help="show what has come in, so far apart")
    parser.add_argument(
        "--latest-only", action="store_true", help="leave out what newer changes of the same paths have overtaken"
    )
    parser.add_argument("--limit", type=parse_count, metavar="N", help="end after N changes")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Show changes until an interruption or the limit; then print the cursor to go on from, to stderr."""
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
            for change in changes.take(_PAGE if left is None else min(_PAGE, left), _POLL):
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
    show_changes(_differences(change), output)


def _differences(change: Change) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for path, (old, new) in (change.values or {}).items():
        yield from find_differences(segments_of_text(path), read_only(old), read_only(new))


def _data(change: Change) -> dict[str, Any]:
    data = {"agent": change.agent, "seq": change.seq, "paths": change.paths, "event": event_data(change.event)}
    return data if change.values is None else {**data, "values": changes_data(change.values)}


WATCH: Final = Command("watch", "show what agents do, while they do it", _run, _add_arguments)
