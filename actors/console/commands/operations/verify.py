"""`duramen verify`: whether what is stored is what was written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from duramen.events import AgentPath
from duramen.events.model import count_of
from duramen.projections import VerificationProgress, VerificationReport
from duramen.projections.integrity import Problem

from ....api import AgentSystem
from ...arguments import Options, parse_count
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Advance, Output, show_progress, text

_WORKERS: Final = 4
_MOST_WORKERS: Final = 64


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="agents (default: all); with --replay also files of recorded logs"
    )
    parser.add_argument("--tree", action="store_true", help="with all agents below these")
    parser.add_argument(
        "--workers",
        type=_parse_workers,
        metavar="N",
        help=f"look at so many agents at a time (default: {_WORKERS}); with --replay, so many processes (default: as "
        "many as there are processors for)",
    )
    replay = parser.add_argument_group("whether today's code makes of a log what was made of it then")
    replay.add_argument("--replay", action="store_true", help="check this instead; of each difference, make a test")
    replay.add_argument("--tests", default=".", metavar="DIR", help="where these tests go (default: here)")
    replay.add_argument(
        "--import",
        action="append",
        dest="imports",
        metavar="MODULE",
        help="a module of yours that declares event types and upcasters; may be repeated",
    )


def _parse_workers(text: str) -> int:
    found = parse_count(text)
    if found > _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST_WORKERS}")
    return found


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    if arguments.replay:
        from .verify_replay import verify_replay  # takes a tenth of the start of every other command

        return verify_replay(arguments, options, output)
    paths = list(dict.fromkeys(AgentPath.parse(path).text for path in arguments.paths))
    with opened(options) as system, show_progress("event", bar=not output.as_json) as advance:
        report = _verify(system, paths, arguments, advance)
    if output.as_json:
        output.data(report.as_data())
    elif report.ok:
        output.line(text(str(report), "green"))
    else:
        for problem in report.problems:
            output.line(text(str(problem), "red"))
        output.line(text(_summary(report), "bold"))
    return ExitCode.OK if report.ok else ExitCode.CORRUPT


def _verify(
    system: AgentSystem, paths: Sequence[str], arguments: argparse.Namespace, advance: Advance
) -> VerificationReport:
    """One report of all agents, or of those at `paths`."""
    agents = events = 0
    problems: list[Problem] = []

    def on_progress(progress: VerificationProgress) -> None:
        note = count_of(agents + progress.agents, "agent")
        wrong = len(problems) + progress.problems
        advance(events + progress.events, None, f"{note}, {count_of(wrong, 'problem')}" if wrong else note)

    wanted: Sequence[str | None] = paths or [None]
    for path in wanted:
        report = system.verify(path, tree=arguments.tree, workers=arguments.workers or _WORKERS, progress=on_progress)
        agents += report.agents
        events += report.events
        problems += report.problems
    return VerificationReport(not problems, events, agents, tuple(problems))


def _summary(report: VerificationReport) -> str:
    wrong = len({problem.agent for problem in report.problems})
    problems, agents = count_of(len(report.problems), "problem"), count_of(report.agents, "agent")
    return f"{problems} in {wrong} of {agents}; events that are sound: {report.events:,}"


VERIFY: Final = Command("verify", "prove that what is stored is what was written", _run, _add_arguments)
