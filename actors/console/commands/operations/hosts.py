"""`duramen hosts`: the processes that run agents of this namespace."""

from __future__ import annotations

import argparse
from typing import Any, Final

from duramen.events.log import HostRecord

from ...arguments import Options
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, Table, text

_ORDER: Final = ("up", "client", "draining", "closed", "buried")
_STYLES: Final = {"up": "green", "client": "", "draining": "yellow", "closed": "dim", "buried": "dim"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="those that have ended, too, as long as they are remembered")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    with opened(options) as system:
        known = [record for record in system.hosts() if record.host != system.host]
    shown = [record for record in known if arguments.all or not record.has_ended]
    shown.sort(key=lambda record: (_ORDER.index(record.state), record.host))
    if output.as_json:
        output.data([_data(record) for record in shown])
    elif not shown:
        output.show(text("no hosts are known here"))
    else:
        _show(shown, output)
    return ExitCode.OK


def _data(record: HostRecord) -> dict[str, Any]:
    return {
        "host": record.host,
        "state": record.state,
        "pid": _pid(record),
        "agents_in_memory": record.load,
        "agent_types": record.agent_types,
        "message_types": record.message_types,
        "protocol": record.protocol,
        "beat": record.beat,
    }


def _pid(record: HostRecord) -> int | None:
    """Its process id, in the process's own namespace; None if it is not known."""
    return None if record.machine is None else record.machine[2]


def _show(records: list[HostRecord], output: Output) -> None:
    table = Table("host", "state", "pid", "agents", "agent types", texts=["agent types"], right=["pid", "agents"])
    for record in records:
        table.add_row(
            text(record.host),
            text(record.state, _STYLES[record.state]),
            text(_pid(record)),
            text(record.load),
            text(", ".join(record.agent_types)),
        )
    output.show(table)


HOSTS: Final = Command("hosts", "list the processes that run agents", _run, _add_arguments)
