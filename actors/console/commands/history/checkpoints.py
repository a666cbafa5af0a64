"""`duramen checkpoints`: the checkpoints that an agent can be resumed from."""

from __future__ import annotations

import argparse
from typing import Any, Final

from duramen.events import AgentPath, Limits
from duramen.events.codec import to_datetime
from duramen.projections.recovery import AgentLog, rebuild

from ....api import AgentSystem
from ...arguments import Options, add_path
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, Table, format_time, text, to_json


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        found = _checkpoints(system, path)
    if output.as_json:
        output.data(found)
        return ExitCode.OK
    if not found:
        output.show(text(f"{path} has no checkpoint that has not expired: `duramen pause {path}` takes one"))
        return ExitCode.OK
    names = ["checkpoint", "taken", "seq", "items", "expires", "metadata"]
    table = Table(*names, texts=["metadata"], right=["seq", "items"])
    for row in found:
        table.add_row(
            text(row["checkpoint_id"]),
            text(format_time(row["timestamp"])),
            text(row["seq"]),
            text(row["keys_count"]),
            text(format_time(row["expires_at"]) or "never"),
            text(to_json(row["metadata"], for_people=True) if row["metadata"] else ""),
        )
    output.show(table)
    return ExitCode.OK


def _checkpoints(system: AgentSystem, path: str) -> list[dict[str, Any]]:
    """The checkpoints that have not expired, newest first. The log knows all; the server, which still exist."""
    taken = rebuild(AgentLog(system.log, path, Limits())).state.checkpoints
    names = list(reversed(taken))
    present = system.log.exists([system.log.checkpoint_key(path, name) for name in names])
    return [_data(name, taken[name]) for name, exists in zip(names, present, strict=True) if exists]


def _data(name: str, entry: list[Any]) -> dict[str, Any]:
    seq, time, keys, expires, metadata, *_ = entry
    return {
        "checkpoint_id": name,
        "timestamp": to_datetime(time),
        "keys_count": keys,
        "seq": seq,
        "expires_at": None if expires is None else to_datetime(expires),
        "metadata": metadata,
    }


CHECKPOINTS: Final = Command("checkpoints", "list what an agent can be resumed from", _run, add_path)
