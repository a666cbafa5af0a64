"""`duramen retry`: parked work goes on."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath

from ...arguments import Options, add_command_id, add_work
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_work(parser)
    add_command_id(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        receipt = system.agent(name).retry(arguments.work, command_id=arguments.command_id)
    output.receipt(name, receipt, f"work {arguments.work} goes on")
    return ExitCode.OK


RETRY: Final = Command("retry", "let parked work go on", _run, _add_arguments)
