"""`duramen check-work`: unfinished work is run against other code, and nothing is done."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final, cast

from attrs import asdict

from ....handlers import AgentFactory
from ...arguments import Options, load_named
from ...command import Command
from ...errors import UnusableCode
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, Table, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agents", metavar="MODULE:NAME", help="a mapping of agent types to classes")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    agents = load_named(arguments.agents)
    if not isinstance(agents, Mapping):
        raise UnusableCode(f"{arguments.agents} is a {type(agents).__name__}; give a mapping of agent types to classes")
    known = cast("Mapping[str, AgentFactory]", agents)
    with opened(options, agents=known, host=False) as system, output.waiting("running unfinished work"):
        problems = system.check_work()
    if output.as_json:
        output.data([asdict(problem) for problem in problems])
    elif not problems:
        output.show(text("this code carries all unfinished work on"))
    else:
        table = Table("agent", "work", "message", "what", texts=["what"], right=["work"])
        for problem in problems:
            table.add_row(
                text(problem.agent), text(problem.work), text(problem.message_type), text(problem.text, "red")
            )
        output.show(table)
    return ExitCode.FAILED if problems else ExitCode.OK


CHECK_WORK: Final = Command(
    "check-work", "run unfinished work against other code, without doing anything", _run, _add_arguments
)
