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


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = None if arguments.path is None else AgentPath.parse(arguments.path).text
    with opened(options) as system:
        found = system.unfinished(limit=arguments.limit) if name is None else system.agent(name).unfinished()
    if output.as_json:
        output.data([asdict(work, recurse=False) for work in found])
    elif not found:
        output.show(text("nothing is unfinished"))
    else:
        table = Table(
            "agent", "work", "message", "since", "tries", "waits for", texts=["waits for"], right=["work", "tries"]
        )
        for work in found:
            table.add_row(
                text(work.agent),
                text(work.work),
                text(work.message),
                text(format_time(work.since)),
                text(work.tries),
                text(_describe(work), "" if work.parked is None else "red"),
            )
        output.show(table)
    return ExitCode.OK


def _describe(work: UnfinishedWork) -> str:
    if work.parked is not None:
        return f"parked: {work.parked['text']}"
    return ", ".join(map(_describe_one, work.waits_for)) or "its turn"


def _describe_one(item: Any) -> str:
    words = [item["kind"], item["name"]] if item["name"] != item["kind"] else [item["kind"]]
    if item["due"] is not None:
        words.append(f"until {format_time(item['due'])}")
    if item["attempts"]:
        words.append(f"({item['attempts']} failed)")
    return " ".join(words)


UNFINISHED: Final = Command(
    "unfinished", "list durable messages that are not handled to their end", _run, add_path_or_all
)
