"""`duramen answer`: the answer that a durable handler waits for."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath

from ...arguments import Options, add_command_id, add_path, parse_count, parse_json
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("name", metavar="NAME", help="what the handler waits for")
    parser.add_argument(
        "value",
        nargs="?",
        type=parse_json,
        metavar="JSON",
        help="the answer, in JSON: a text needs its quotes (default: null)",
    )
    parser.add_argument("--work", type=parse_count, metavar="SEQ", help="whose wait: the seq of its message")
    add_command_id(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        receipt = system.agent(name).answer(
            arguments.name, arguments.value, work=arguments.work, command_id=arguments.command_id
        )
    output.receipt(name, receipt, f"{arguments.name} is answered")
    return ExitCode.OK


ANSWER: Final = Command("answer", "answer what a durable handler waits for", _run, _add_arguments)
