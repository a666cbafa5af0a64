"""The commands that only look. None takes an agent over from the process that runs it."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from duramen.events import AgentPath, PropertyPath
from duramen.events.codec import to_datetime
from duramen.events.log import Entry
from duramen.projections import AgentState, PastState
from duramen.projections.state import lookup

from ...api import AgentSystem
from ..arguments import Options, moment, state_at
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import STYLES, Output, clean, columns, joined, local_time, text, to_json

__all__ = ["agents", "checkpoints", "show"]


def agents(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """All agents, as a tree by path."""
    with opened(options) as system:
        entries = sorted(system.agents(), key=lambda entry: AgentPath.parse(entry.agent))
    if output.as_json:
        output.data([_agent_data(entry) for entry in entries])
        return ExitCode.OK
    if not entries:
        output.show(text("no agents yet: `duramen run` makes some of recordings, `duramen spawn PATH` makes one"))
        return ExitCode.OK
    table = columns("agent", "status", "type", "session", "seq", "updated")
    table.columns[4].justify = "right"
    table.columns[0].no_wrap = True
    for label, entry in _tree(entries):
        if entry is None:
            table.add_row(text(label, "bold"))
        else:
            table.add_row(
                text(label),
                text(entry.status, STYLES.get(entry.status, "")),
                text(entry.agent_type),
                text(entry.session_id),
                text(entry.head.seq),
                text(local_time(to_datetime(entry.head.updated_at))),
            )
    output.show(table)
    return ExitCode.OK


def _agent_data(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.agent,
        "status": entry.status,
        "agent_type": entry.agent_type,
        "session_id": entry.session_id,
        "seq": entry.head.seq,
        "updated_at": to_datetime(entry.head.updated_at),
    }


def _tree(entries: list[Entry]) -> list[tuple[str, Entry | None]]:
    """A label for each agent, and for each part of a path that is none itself."""
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


def show(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """An agent and its working memory, or one value of it."""
    path = AgentPath.parse(arguments.path).text
    wanted = None if arguments.property is None else PropertyPath.parse(arguments.property)
    with opened(options) as system:
        if arguments.at is None:
            state = system.peek(path)
            facts, memory = _state_data(path, state), state.memory
        else:
            past = state_at(system, path, moment(arguments.at))
            facts, memory = _past_data(past), past.memory.plain()
    if wanted is not None:
        value = lookup(memory, wanted.segments)
        if output.as_json:
            output.data(value)
        else:
            _show_value(value, output)
        return ExitCode.OK
    if output.as_json:
        output.data({**facts, "memory": memory})
        return ExitCode.OK
    _show_facts(facts, output)
    if memory:
        _show_value(memory, output)
    else:
        output.show(text(f"working memory is empty{_why_empty(path, facts['status'])}"))
    return ExitCode.OK


def _show_facts(facts: dict[str, Any], output: Output) -> None:
    for name, value in facts.items():
        if value is None or value == {}:
            continue
        if isinstance(value, datetime):
            told = local_time(value)
        else:
            told = str(value) if isinstance(value, (str, int)) else to_json(value, for_people=True)
        output.line(joined(text(f"{name.replace('_', ' '):<11} ", "dim"), text(told, STYLES.get(told, ""))))
    output.line(text(""))


def _state_data(path: str, state: AgentState) -> dict[str, Any]:
    return {
        "path": path,
        "status": state.status,
        "agent_type": state.agent_type,
        "session_id": state.session_id,
        "seq": state.seq,
        "started_at": to_datetime(state.started_at),
        "updated_at": to_datetime(state.updated_at),
        "paused_at": state.paused_at,
        "metadata": state.metadata,
    }


def _past_data(state: PastState) -> dict[str, Any]:
    return {
        "path": state.agent,
        "status": state.status,
        "agent_type": state.agent_type,
        "session_id": state.session_id,
        "seq": state.seq,
        "started_at": state.started_at,
        "updated_at": state.time,
        "paused_at": state.paused_at,
        "metadata": state.metadata.plain(),
    }


def _why_empty(path: str, status: str) -> str:
    if status == "absent":
        return ": the agent was not there yet"
    if status != "terminated":
        return ""
    return f": the session has ended; `duramen log {path}` shows what happened"


def _show_value(value: Any, output: Output) -> None:
    from rich.text import Text

    if isinstance(value, str):
        output.show(Text(clean(value, lines=True)))
    else:
        output.show(Text(clean(to_json(value, indent=2, for_people=True), lines=True)))


def checkpoints(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """What an agent can be resumed from, newest first."""
    path = AgentPath.parse(arguments.path).text
    with opened(options) as system:
        found = _checkpoints(system, path)
    if output.as_json:
        output.data(found)
        return ExitCode.OK
    if not found:
        output.show(text(f"{path} has no checkpoint that has not expired: `duramen pause {path}` takes one"))
        return ExitCode.OK
    table = columns("checkpoint", "taken", "seq", "items", "expires", "metadata")
    for row in found:
        table.add_row(
            text(row["checkpoint_id"]),
            text(local_time(row["timestamp"])),
            text(row["seq"]),
            text(row["keys_count"]),
            text(local_time(row["expires_at"]) or "never"),
            text(to_json(row["metadata"], for_people=True) if row["metadata"] else ""),
        )
    output.show(table)
    return ExitCode.OK


def _checkpoints(system: AgentSystem, path: str) -> list[dict[str, Any]]:
    """The log knows all that were taken; the server knows which have expired."""
    taken = system.peek(path).checkpoints
    names = list(reversed(taken))
    there = system.log.exists([system.log.checkpoint_key(path, name) for name in names])
    return [_checkpoint_data(name, taken[name]) for name, exists in zip(names, there, strict=True) if exists]


def _checkpoint_data(name: str, entry: list[Any]) -> dict[str, Any]:
    seq, time, keys, expires, metadata, _ = entry
    return {
        "checkpoint_id": name,
        "timestamp": to_datetime(time),
        "keys_count": keys,
        "seq": seq,
        "expires_at": None if expires is None else to_datetime(expires),
        "metadata": metadata,
    }
