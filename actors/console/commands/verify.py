"""`duramen verify`: whether what is stored is what was written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from duramen.events import AgentPath
from duramen.projections import VerificationProgress, VerificationReport
from duramen.projections.integrity import Problem

from ...api import AgentSystem
from ..arguments import Options
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Advance, Output, counting, text
from .verify_replay import verify_replay

__all__ = ["WORKERS", "verify"]

WORKERS: Final = 4
"""Agents that are looked at a time, unless told otherwise."""


def verify(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Look at all agents, or at some; exit code 4 if anything is wrong."""
    if arguments.replay:
        return verify_replay(arguments, options, output)
    paths = list(dict.fromkeys(AgentPath.parse(path).text for path in arguments.paths))
    with opened(options) as system, counting("events", bar=not output.as_json) as advance:
        report = _verified(system, paths, arguments, advance)
    if output.as_json:
        output.data(report.as_data())
    elif report.ok:
        output.line(text(str(report), "green"))
    else:
        for problem in report.problems:
            output.line(text(str(problem), "red"))
        output.line(text(_summary(report), "bold"))
    return ExitCode.OK if report.ok else ExitCode.CORRUPT


def _verified(
    system: AgentSystem, paths: Sequence[str], arguments: argparse.Namespace, advance: Advance
) -> VerificationReport:
    """One report of all that was asked for."""
    agents = events = 0
    problems: list[Problem] = []

    def on_progress(progress: VerificationProgress) -> None:
        note = f"{agents + progress.agents:,} agents"
        wrong = len(problems) + progress.problems
        advance(events + progress.events, None, f"{note}, {wrong:,} problems" if wrong else note)

    asked: Sequence[str | None] = paths or [None]
    for path in asked:
        report = system.verify(path, tree=arguments.tree, workers=arguments.workers or WORKERS, progress=on_progress)
        agents += report.agents
        events += report.events
        problems += report.problems
    return VerificationReport(not problems, events, agents, tuple(problems))


def _summary(report: VerificationReport) -> str:
    wrong = len({problem.agent for problem in report.problems})
    return f"{len(report.problems)} problems in {wrong} of {report.agents} agents; {report.events} events are sound"
