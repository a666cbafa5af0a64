"""`duramen agents`: all agents, as a tree by path."""

from __future__ import annotations

import argparse
from typing import Any, Final

from duramen.events import AgentPath
from duramen.events.log import Entry

from ...arguments import Options, parse_count, parse_json_pair
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import STYLES, Output, Table, format_time, natural_key, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="how the agents' paths begin")
    parser.add_argument("--status", action="append", metavar="STATUS", help="only agents in this status; repeatable")
    parser.add_argument("--limit", type=parse_count, metavar="N", help="at most so many, whichever are found first")
    parser.add_argument(
        "--metadata",
        action="append",
        type=parse_json_pair,
        metavar="KEY=JSON",
        help="only agents spawned with this among their metadata; may be repeated",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    with opened(options) as system, output.waiting("reading the list of agents"):
        found = system.agents(
            arguments.prefix,
            status=arguments.status,
            metadata=dict(arguments.metadata or ()),
            limit=arguments.limit,
        )
        entries = sorted(found, key=lambda entry: natural_key(entry.agent))
    if output.as_json:
        output.data([_data(entry) for entry in entries])
        return ExitCode.OK
    if not entries and (arguments.prefix or arguments.status or arguments.metadata):
        output.show(text("no agent is like that"))
        return ExitCode.OK
    if not entries:
        output.show(text("no agents yet: `duramen run` makes some of recordings, `duramen spawn PATH` makes one"))
        return ExitCode.OK
    table = Table("agent", "status", "type", "session", "seq", "updated", right=["seq"])
    for label, entry in _tree(entries):
        if entry is None:
            table.add_row(text(label, "bold"))
        else:
            table.add_row(
                text(label),
                text(entry.status, STYLES.get(entry.status, "")),
                text(entry.agent_type),
                text(entry.session_id),
                text(entry.seq),
                text(format_time(entry.updated_at)),
            )
    output.show(table)
    return ExitCode.OK


def _data(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.agent,
        "status": entry.status,
        "agent_type": entry.agent_type,
        "session_id": entry.session_id,
        "seq": entry.seq,
        "updated_at": entry.updated_at,
    }


def _tree(entries: list[Entry]) -> list[tuple[str, Entry | None]]:
    """A label and an entry for each agent, and a label alone for each inner part of a path that is no agent."""
    nodes: dict[tuple[str, ...], Entry | None] = {}
    for entry in entries:
        segments = AgentPath.parse(entry.agent).segments
        for depth in range(1, len(segments)):
            nodes.setdefault(segments[:depth], None)
        nodes[segments] = entry
    last = {segments[:-1]: segments for segments in nodes}
    return [(_label(segments, last), entry) for segments, entry in nodes.items()]


def _label(segments: tuple[str, ...], last: dict[tuple[str, ...], tuple[str, ...]]) -> str:
    if len(segments) == 1:
        return segments[0]
    above = "".join(
        "   " if last[segments[: depth - 1]] == segments[:depth] else "│  " for depth in range(2, len(segments))
    )
    return f"{above}{'└─ ' if last[segments[:-1]] == segments else '├─ '}{segments[-1]}"


AGENTS: Final = Command("agents", "list the agents as a tree", _run, _add_arguments)
