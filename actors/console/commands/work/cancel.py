"""`duramen cancel`: the work on a durable message is cancelled."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath

from ...arguments import Options, add_command_id, add_work, parse_seconds
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output

_SECONDS: Final = 30.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_work(parser)
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=_SECONDS,
        metavar="N",
        help=f"how long its handler may still clean up (default: {_SECONDS:g})",
    )
    add_command_id(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        receipt = system.agent(name).cancel(arguments.work, seconds=arguments.seconds, command_id=arguments.command_id)
    output.receipt(name, receipt, f"work {arguments.work} is cancelled")
    return ExitCode.OK


CANCEL: Final = Command("cancel", "cancel the work on a durable message", _run, _add_arguments)
