"""`duramen set`: one value of an agent's working memory."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath, PropertyPath

from ...arguments import Options, add_command_id, add_path, parse_json
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("property", metavar="PROPERTY", help="property path, such as plan/steps/0")
    parser.add_argument("value", type=parse_json, metavar="JSON", help="the value, in JSON: a text needs its quotes")
    add_command_id(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name, path = AgentPath.parse(arguments.path).text, PropertyPath.parse(arguments.property)
    with opened(options) as system:
        receipt = system.agent(name).set(str(path), arguments.value, command_id=arguments.command_id)
    output.receipt(name, receipt, f"{path} is set")
    return ExitCode.OK


SET: Final = Command("set", "set a value in an agent's working memory", _run, _add_arguments)
