"""`duramen diff`: what differs between two moments, of one agent or of two."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath, InvalidMessage

from ...arguments import MOMENTS, Options, add_path, parse_moment
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, text

_STYLES: Final = {"---": "bold", "+++": "bold", "+": "green", "-": "red", "~": "yellow"}


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
    for line in str(found).splitlines():
        output.line(text(line, next((style for mark, style in _STYLES.items() if line.startswith(f"{mark} ")), "")))
    return ExitCode.OK


DIFF: Final = Command("diff", "show what differs between two moments", _run, _add_arguments)
