"""`duramen run`: recorded sessions become agents."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

from duramen.events import DuramenError

from ..arguments import Options, parse_count
from ..command import Command
from ..exit_codes import ExitCode, exit_code_of
from ..ingest import CHECKPOINT, Ingestion, Plan, Totals, make_plan
from ..opening import opened
from ..output import Advance, Output, clean, join_texts, show_progress, text

__all__ = ["RUN"]

_PARALLEL: Final = 16
_FAILURES_SHOWN: Final = 5


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="recordings: chat messages or sessions of them, JSON or JSON Lines (default: a small sample)",
    )
    parser.add_argument("--project", metavar="NAME", help="first part of the agent paths (default: the file's name)")
    parser.add_argument("--limit", type=parse_count, metavar="N", help="take in N sessions at most")
    parser.add_argument(
        "--parallel",
        type=parse_count,
        default=_PARALLEL,
        metavar="N",
        help=f"sessions at a time (default: {_PARALLEL})",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Take in the recordings, or the sample; sessions that are in the store already are left alone."""
    plan = make_plan(arguments.files, arguments.project, arguments.limit)
    stopped: KeyboardInterrupt | DuramenError | None = None
    with opened(options, create=True) as system:
        known = {entry.agent: entry for entry in system.agents() if entry.agent.split("/")[0] in plan.projects}
        began = monotonic()
        with show_progress("messages", bar=not output.as_json) as advance:
            ingestion = Ingestion(system, known, partial(_advance, advance, plan))
            try:
                asyncio.run(ingestion.run(plan.read(), min(arguments.parallel, plan.sessions)))
            except (KeyboardInterrupt, DuramenError) as error:
                stopped = error
        seconds = monotonic() - began
    totals = ingestion.totals
    if output.as_json:
        output.data(_data(plan, totals, seconds))
    else:
        _show(plan, totals, seconds, output)
    code = _report_failures(plan, totals, stopped)
    if code is ExitCode.OK and not output.as_json:
        if options.url == "memory://":
            output.line(text("memory:// has forgotten all of it by now; leave --url out to keep it"))
        else:
            _show_next(plan.paths[-1], options, output)
    return code


def _advance(advance: Advance, plan: Plan, totals: Totals) -> None:
    note = f"{totals.sessions:,} of {plan.sessions:,} sessions, {totals.events:,} events added"
    advance(totals.messages, plan.messages, note)


def _data(plan: Plan, totals: Totals, seconds: float) -> dict[str, Any]:
    return {
        "sessions": plan.sessions,
        "sessions_done": totals.sessions,
        "sessions_known": totals.known_sessions,
        "messages": plan.messages,
        "messages_added": totals.added_messages,
        "events_added": totals.events,
        "checkpoints_added": totals.checkpoints,
        "episodes_added": totals.episodes,
        "seconds": round(seconds, 3),
        "events_per_second": round(totals.events / seconds, 1),
        "failures": [{"path": path, "error": type(e).__name__, "message": str(e)} for path, e in totals.failures],
    }


def _show(plan: Plan, totals: Totals, seconds: float, output: Output) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    known = f"{totals.known_sessions} of them were there already" if totals.known_sessions else ""
    rows = (
        ("sessions", totals.sessions, known),
        ("messages added", totals.added_messages, f"of {plan.messages:,} in the recordings"),
        ("events added", totals.events, "messages, tool calls and results, completions, lifecycle"),
        ("checkpoints", totals.checkpoints, f"taken half-way through each session, as {CHECKPOINT!r}"),
        ("episodes", totals.episodes, "what is kept of a session that has ended"),
        ("events/s", f"{totals.events / seconds:,.0f}" if totals.events else "", f"in {seconds:.1f} s"),
    )
    for name, number, meaning in rows:
        shown = f"{number:,}" if isinstance(number, int) else number
        table.add_row(text(name), text(shown), text(meaning))
    output.show(table)
    if totals.known_sessions == plan.sessions:
        output.show(text("nothing to add: all of it was there already"), text(""))


def _report_failures(plan: Plan, totals: Totals, stopped: KeyboardInterrupt | DuramenError | None) -> ExitCode:
    """Print to stderr what went wrong, and return the exit code for it."""
    for path, error in totals.failures[:_FAILURES_SHOWN]:
        sys.stderr.write(f"duramen: {clean(path)}: {clean(str(error))}\n")
    if len(totals.failures) > _FAILURES_SHOWN:
        sys.stderr.write(f"duramen: {len(totals.failures) - _FAILURES_SHOWN} more sessions failed\n")
    if stopped is None:
        return exit_code_of(totals.failures[0][1]) if totals.failures else ExitCode.OK
    why = "interrupted" if isinstance(stopped, KeyboardInterrupt) else clean(str(stopped), lines=True)
    sys.stderr.write(
        f"duramen: {why}\n"
        f"duramen: {totals.sessions} of {plan.sessions} sessions and {totals.messages} of {plan.messages} messages are "
        "in; run the same again to carry on\n"
    )
    return ExitCode.INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else exit_code_of(stopped)


def _show_next(path: str, options: Options, output: Output) -> None:
    project = path.split("/", 1)[0]
    given = "".join(f" {word}" for word in options.given)
    lines = (
        (f"agents{given}", "all agents and where they stand"),
        (f"log {path} --limit 10{given}", "what happened last"),
        (f"episodes --project {project}{given}", "what is remembered"),
        (f"spawn {path}{given}", "begin a new session of the same agent"),
        (f"resume {path} {CHECKPOINT}{given}", "with its memory of half-way"),
        (f"show {path} messages/0{given}", "and look into it"),
    )
    width = max(len(command) for command, _ in lines)
    output.line(text("what to try next:", "bold"))
    program = _program()
    for command, meaning in lines:
        output.line(join_texts(text(f"  {program} {command:<{width}}", "cyan"), text(f"  {meaning}", "dim")))


def _program() -> str:
    """The word that calls this command from here: its name where the shell finds it, else the path of its file."""
    if shutil.which("duramen") is not None or Path(sys.argv[0]).name != "duramen":
        return "duramen"
    try:
        return str(Path(sys.argv[0]).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(Path(sys.argv[0]).absolute())


RUN: Final = Command("run", "turn recorded sessions into agents", _run, _add_arguments)
