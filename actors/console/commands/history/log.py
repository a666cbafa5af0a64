"""`duramen log`: what happened to an agent, a line an event."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from duramen.events import AgentPath, Event, Granularity

from ....api import AgentSystem
from ...arguments import Options, add_granularity, add_path, parse_count
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, event_data, event_line, event_lines, join_texts, text
from ...serving import interruption

_POLL: Final = 0.2
"""Seconds until an interruption is seen while nothing happens."""
_PAGE: Final = 500


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    add_granularity(parser, Granularity.TRACE)
    parser.add_argument(
        "--limit", type=parse_count, metavar="N", help="N events at most: the last ones, or with --from the first"
    )
    parser.add_argument("--from", type=parse_count, dest="start", metavar="SEQ", help="begin with this event")
    parser.add_argument("--full", action="store_true", help="the whole event below its line, every value to its end")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    level = Granularity[arguments.granularity.upper()]
    with opened(options) as system:
        if arguments.follow:
            return _follow(system, path, level, arguments, output)
        for event in _read(system, path, level, arguments.start, arguments.limit):
            _show(event, output, full=arguments.full)
    return ExitCode.OK


def _show(event: Event, output: Output, *, full: bool) -> None:
    if output.as_json:
        output.data_line(event_data(event))
        return
    output.line(event_line(event))
    for line in event_lines(event)[2:] if full else ():
        output.line(join_texts(text("        "), line), aligned=True)


def _follow(
    system: AgentSystem, path: str, level: Granularity, arguments: argparse.Namespace, output: Output
) -> ExitCode:
    """Show the events of the log, then new ones. With both `from` and `limit` it ends after so many."""
    start: int | None = arguments.start
    left: int | None = arguments.limit if start is not None else None
    last = (start or 1) - 1
    # The subscription begins before the log is read: an event in between comes twice, and is shown once.
    with interruption() as stop, system.subscribe(f"{path}/**", granularity=level) as changes:
        events: Iterable[Event] = _read(system, path, level, start, arguments.limit)
        while not stop.asked:
            for event in events:
                if event.agent != path or 0 < event.seq <= last:
                    continue
                _show(event, output, full=arguments.full)
                last = event.seq  # 0 where it was erased: what comes next is another log
                left = None if left is None else left - 1
                if stop.asked or left == 0:
                    break
            sys.stdout.flush()
            if left == 0:
                return ExitCode.OK
            events = [change.event for change in changes.take(_PAGE, _POLL)]
    sys.stderr.write(f"duramen: go on from here with --from {last + 1}\n")
    return ExitCode.INTERRUPTED


def _read(system: AgentSystem, path: str, level: Granularity, start: int | None, limit: int | None) -> Iterable[Event]:
    """The events up to a level, oldest first: from `start` on, or the last `limit`."""
    if start is not None or limit is None:
        first = start or first_seq(system, path)
        events = (e for e in system.events(path, from_seq=first) if e.granularity <= level)
        return islice(events, limit)
    return _read_last(system, path, level, limit)


def first_seq(system: AgentSystem, path: str) -> int:
    """The first event that was not trimmed; 1 for an agent that does not exist."""
    head = system.log.head(path)
    return 1 if head is None else head.base + 1


def _read_last(system: AgentSystem, path: str, level: Granularity, limit: int) -> Iterator[Event]:
    """The last `limit` events up to the level, searched from the end, so that a long log is not read as a whole."""
    head = system.log.head(path)
    if head is None:
        yield from system.events(path)  # raises AgentNotFound
        return
    window = limit
    while True:
        first = max(head.base, head.seq - window) + 1
        found = [event for event in system.events(path, from_seq=first, to_seq=head.seq) if event.granularity <= level]
        if len(found) >= limit or first == head.base + 1:
            yield from found[-limit:]
            return
        window *= 4


LOG: Final = Command("log", "show what happened to an agent, a line an event", _run, _add_arguments)
