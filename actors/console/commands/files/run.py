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
from duramen.events.model import count_of
from duramen.events.redis.client import redact_url
from duramen.projections.state import TERMINATED_STATUS

from ....api import AgentSystem
from ...arguments import Options, parse_count
from ...command import Command
from ...exit_codes import ExitCode, exit_code_of
from ...ingest import CHECKPOINT, Ingestion, Plan, Totals, make_plan
from ...opening import opened
from ...output import Advance, Output, clean, join_texts, show_progress, text

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
        with show_progress("message", bar=not output.as_json) as advance:
            ingestion = Ingestion(system, known, partial(_advance, advance, plan))
            try:
                asyncio.run(ingestion.run(plan.read(), min(arguments.parallel, plan.sessions)))
            except (KeyboardInterrupt, DuramenError) as error:
                stopped = error
        seconds = monotonic() - began
        hints = [] if stopped else _hints(system, plan.paths[-1])
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
            output.line(text(f"all of it is in {_place(options)}"))
            _show_hints(hints, options, output)
    return code


def _advance(advance: Advance, plan: Plan, totals: Totals) -> None:
    sessions, events = count_of(plan.sessions, "session"), count_of(totals.events, "event")
    note = f"{totals.sessions:,}/{sessions}, {events} added"
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
    known = f"there before: {totals.known_sessions:,}" if totals.known_sessions else ""
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
        sys.stderr.write(f"duramen: {count_of(len(totals.failures) - _FAILURES_SHOWN, 'more session')} failed\n")
    if stopped is None:
        return exit_code_of(totals.failures[0][1]) if totals.failures else ExitCode.OK
    why = "interrupted" if isinstance(stopped, KeyboardInterrupt) else clean(str(stopped), lines=True)
    sys.stderr.write(
        f"duramen: {why}\n"
        f"duramen: {totals.sessions} of {count_of(plan.sessions, 'session')} and {totals.messages} of "
        f"{count_of(plan.messages, 'message')} are in; run the same again to carry on\n"
    )
    return ExitCode.INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else exit_code_of(stopped)


def _place(options: Options) -> str:
    return f"the folder {options.folder}" if options.url is None else redact_url(options.url)


def _hints(system: AgentSystem, path: str) -> list[tuple[str, str]]:
    """Commands that work on the store as it is now, each with what it is for."""
    found = [
        ("agents", "all agents and where they stand"),
        (f"log {path} --limit 10", "what happened last"),
        (f"episodes --project {path.split('/', 1)[0]}", "what is remembered"),
    ]
    state = system.peek(path)
    if state.status == TERMINATED_STATUS:
        found.append((f"spawn {path}", "begin a new session of the same agent"))
    if CHECKPOINT in state.checkpoints and system.log.exists([system.log.checkpoint_key(path, CHECKPOINT)])[0]:
        found.append((f"resume {path} {CHECKPOINT}", "with its memory of half-way"))
        found.append((f"show {path} messages/0", "and look into it"))
    else:
        found.append((f"show {path}", "its working memory"))
    return found


def _show_hints(hints: list[tuple[str, str]], options: Options, output: Output) -> None:
    given = "".join(f" {word}" for word in options.given)
    lines = [(f"  {_program()} {command}{given}", meaning) for command, meaning in hints]
    width = max(len(command) for command, _ in lines)
    beside = output.fits(width + 2 + max(len(meaning) for _, meaning in lines))
    output.line(text("what to try next:", "bold"))
    for command, meaning in lines:
        if beside:
            output.line(join_texts(text(f"{command:<{width}}", "cyan"), text(f"  {meaning}", "dim")))
        else:
            output.line(text(f"  {meaning}:", "dim"))
            output.line(text(f"  {command}", "cyan"), wrap=False)


def _program() -> str:
    """The word that calls this command from here: its name where the shell finds it, else the path of its file."""
    if shutil.which("duramen") is not None or Path(sys.argv[0]).name != "duramen":
        return "duramen"
    try:
        return str(Path(sys.argv[0]).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(Path(sys.argv[0]).absolute())


RUN: Final = Command("run", "turn recorded sessions into agents", _run, _add_arguments)
