"""`duramen set`: one value of an agent's working memory."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath, PropertyPath

from ..arguments import Options, add_path, parse_json
from ..command import Command
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("property", metavar="PROPERTY", help="property path, such as plan/steps/0")
    parser.add_argument("value", type=parse_json, metavar="JSON", help="the value, in JSON: a text needs its quotes")
    parser.add_argument("--command-id", metavar="ID", help="sent again with the same id, it is done once")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name, path = AgentPath.parse(arguments.path).text, PropertyPath.parse(arguments.property)
    with opened(options) as system:
        receipt = system.agent(name).set(str(path), arguments.value, command_id=arguments.command_id)
    if output.as_json:
        output.data(receipt._asdict() | {"digest": receipt.digest.hex()})
    else:
        output.line(text(f"{name}: {path} is set (seq {receipt.seq})"))
    return ExitCode.OK


SET: Final = Command("set", "set a value in an agent's working memory", _run, _add_arguments)
