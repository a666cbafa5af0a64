"""`duramen diff`: what differs between two moments, of one agent or of two."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from duramen.events import AgentPath, InvalidMessage
from duramen.projections import MISSING, Changes

from ...arguments import MOMENTS, Options, add_path, parse_moment
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, change_line, format_time, natural_key, shorten_value, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("a", nargs="?", metavar="A", help=f"the one moment: {MOMENTS}")
    parser.add_argument("b", nargs="?", metavar="B", help="the other moment (default: now)")
    parser.add_argument("--other", metavar="PATH", help="B is a moment of this agent")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    other = None if arguments.other is None else AgentPath.parse(arguments.other).text
    if arguments.a is None and other is None:
        raise InvalidMessage("diff takes a moment to compare with now, two moments, or --other PATH")
    a, b = (None if given is None else parse_moment(given) for given in (arguments.a, arguments.b))
    with opened(options) as system, output.waiting("reading the log"):
        found = system.diff(path, a, b, other=other)
    if output.as_json:
        output.data(found.as_data())
        return ExitCode.OK
    output.line(text(f"--- {found.a.agent} at {found.a.seq}", "bold"))
    output.line(text(f"+++ {found.b.agent} at {found.b.seq}", "bold"))
    for name, (old, new) in found.as_data()["lifecycle"].items():
        output.line(text(f"  {name}: {_shown(old)} → {_shown(new)}"))
    for mark, changes in (("", found.memory), ("(custom) ", found.custom)):
        for where, (old, new) in sorted(_pairs(changes), key=lambda pair: natural_key(pair[0])):
            output.line(change_line(f"{mark}{where}", old, new))
    if not found:
        output.line(text("  no difference", "dim"))
    return ExitCode.OK


def _shown(value: Any) -> str:
    return format_time(value) if isinstance(value, datetime) else shorten_value(value)


def _pairs(changes: Changes) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Path, old and new value of each difference."""
    yield from ((path, (MISSING, new)) for path, new in changes.added.items())
    yield from ((path, (old, MISSING)) for path, old in changes.removed.items())
    yield from changes.changed.items()


DIFF: Final = Command("diff", "show what differs between two moments", _run, _add_arguments)
