"""`duramen unfinished`: the durable messages whose handlers have not ended."""

from __future__ import annotations

import argparse
from typing import Any, Final

from attrs import asdict

from duramen.events import AgentPath

from ....commands import UnfinishedWork
from ...arguments import Options, add_path_or_all
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, Table, format_time, text

_VERBS: Final = {"wait": "needs", "step": "runs", "sleep": "sleeps", "ask": "asks"}


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = None if arguments.path is None else AgentPath.parse(arguments.path).text
    with opened(options) as system:
        found = system.unfinished(limit=arguments.limit) if name is None else system.agent(name).unfinished()
    if output.as_json:
        output.data([asdict(work, recurse=False) for work in found])
    elif not found:
        output.show(text("nothing is unfinished"))
    else:
        table = Table("agent", "work", "message", "since", "tries", "now", texts=["now"], right=["work", "tries"])
        for work in sorted(found, key=_rank):
            table.add_row(
                text(work.agent),
                text(work.work),
                text(work.message_type),
                text(format_time(work.since)),
                text(work.tries),
                text(_describe(work), _style(work)),
            )
        output.show(table)
    return ExitCode.OK


def _describe(work: UnfinishedWork) -> str:
    if work.parked is not None:
        return f"parked: {work.parked['text']}"
    return ", ".join(map(_describe_one, work.waits_for)) or "waits for its turn"


def _rank(work: UnfinishedWork) -> int:
    """What waits for an answer and parked work come first: somebody has to act."""
    return 0 if _waits_for_answer(work) else 1 if work.parked is not None else 2


def _style(work: UnfinishedWork) -> str:
    return "red" if work.parked is not None else "yellow" if _waits_for_answer(work) else ""


def _waits_for_answer(work: UnfinishedWork) -> bool:
    return work.parked is None and any(item["kind"] == "wait" for item in work.waits_for)


def _describe_one(item: Any) -> str:
    words: list[str] = [_VERBS.get(item["kind"]) or item["kind"]]
    if item["name"] != item["kind"]:
        words.append(item["name"])
    if item["due"] is not None:
        words.append(f"until {format_time(item['due'])}")
    if item["attempts"]:
        words.append(f"({item['attempts']} failed)")
    return " ".join(words)


UNFINISHED: Final = Command(
    "unfinished", "list durable messages that are not handled to their end", _run, add_path_or_all
)
