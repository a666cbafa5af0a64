"""`duramen reminders`: durable messages that are due at times."""

from __future__ import annotations

import argparse
from typing import Any, Final

from attrs import asdict

from duramen.events import AgentPath

from ....commands import Reminder
from ...arguments import Options, add_path_or_all
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, Table, format_time, text


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = None if arguments.path is None else AgentPath.parse(arguments.path).text
    with opened(options) as system:
        found = system.reminders(limit=arguments.limit) if name is None else system.agent(name).reminders()
    if output.as_json:
        output.data([_to_data(reminder) for reminder in found])
    elif not found:
        output.show(text("there are no reminders"))
    else:
        table = Table("agent", "name", "message", "due", "every", "missed", right=["every"])
        for reminder in found:
            table.add_row(
                text(reminder.agent),
                text(reminder.name),
                text(reminder.message_type),
                text("parked", "red") if reminder.is_parked else text(format_time(reminder.due)),
                text("" if reminder.every is None else reminder.every),
                text(reminder.missed),
            )
        output.show(table)
    return ExitCode.OK


def _to_data(reminder: Reminder) -> dict[str, Any]:
    every = reminder.every
    return asdict(reminder) | {"every": None if every is None else every.total_seconds()}


REMINDERS: Final = Command("reminders", "list durable messages that are due at times", _run, add_path_or_all)
