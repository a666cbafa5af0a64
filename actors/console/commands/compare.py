"""The commands that compare moments of the past, and say where a value comes from."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath, InvalidMessage

from ..arguments import Options, moment
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, text

__all__ = ["blame", "diff"]

_STYLES: Final = {"---": "bold", "+++": "bold", "+": "green", "-": "red", "~": "yellow"}


def diff(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """What differs between two moments, of one agent or of two."""
    path = AgentPath.parse(arguments.path).text
    other = None if arguments.other is None else AgentPath.parse(arguments.other).text
    if arguments.a is None and other is None:
        raise InvalidMessage("diff takes a moment to compare with now, two moments, or --other PATH")
    a, b = (None if given is None else moment(given) for given in (arguments.a, arguments.b))
    with opened(options) as system:
        found = system.diff(path, a, b, other=other)
    if output.as_json:
        output.data(found.as_data())
        return ExitCode.OK
    for line in str(found).splitlines():
        output.line(text(line, next((style for mark, style in _STYLES.items() if line.startswith(f"{mark} ")), "")))
    return ExitCode.OK


def blame(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Which event has set what is at a property path."""
    path = AgentPath.parse(arguments.path).text
    at = None if arguments.at is None else moment(arguments.at)
    with opened(options) as system:
        found = system.blame(path, arguments.property, at)
    if output.as_json:
        output.data(found.as_data())
        return ExitCode.OK
    for index, line in enumerate(str(found).splitlines()):
        output.line(text(line, "" if index else "bold"))
    return ExitCode.OK
