"""`duramen blame`: which event has set the value at a property path."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath

from ...arguments import Options, add_at, add_path, parse_moment
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("property", nargs="?", default="", metavar="PROPERTY", help="property path (default: all)")
    add_at(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    at = None if arguments.at is None else parse_moment(arguments.at)
    with opened(options) as system, output.waiting("reading the log"):
        found = system.blame(path, arguments.property, at)
    if output.as_json:
        output.data(found.as_data())
        return ExitCode.OK
    for index, line in enumerate(str(found).splitlines()):
        output.line(text(line, "" if index else "bold"))
    return ExitCode.OK


BLAME: Final = Command("blame", "show which event has set a value", _run, _add_arguments)
