"""`duramen show`: an agent and its working memory, or one value of it. Reads only, and claims nothing."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any, Final

from duramen.events import AgentPath, PropertyPath
from duramen.projections import AgentView
from duramen.projections.state import lookup

from ...arguments import Options, add_at, add_path, parse_moment, state_at
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import STYLES, Output, format_time, join_texts, text, to_json


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("property", nargs="?", metavar="PROPERTY", help="property path, such as plan/steps/0")
    add_at(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    wanted = None if arguments.property is None else PropertyPath.parse(arguments.property)
    with opened(options) as system, output.waiting("reading the log"):
        at = arguments.at
        state = system.peek(path) if at is None else state_at(system, path, parse_moment(at))
    facts, memory = _facts(state), state.memory.plain()
    if wanted is not None:
        value = lookup(memory, wanted.segments)
        if output.as_json:
            output.data(value)
        else:
            output.value(value)
    elif output.as_json:
        output.data({**facts, "memory": memory})
    else:
        _show_facts(facts, output)
        if memory:
            output.value(memory)
        else:
            output.show(text(f"working memory is empty{_why_empty(path, facts['status'])}"))
    return ExitCode.OK


def _facts(state: AgentView) -> dict[str, Any]:
    return {
        "path": state.agent,
        "status": state.status,
        "agent_type": state.agent_type,
        "session_id": state.session_id,
        "seq": state.seq,
        "started_at": state.started_at,
        "updated_at": state.updated_at,
        "paused_at": state.paused_at,
        "metadata": state.metadata.plain(),
    }


def _show_facts(facts: dict[str, Any], output: Output) -> None:
    for name, value in facts.items():
        if value is None or value == {}:
            continue
        if isinstance(value, datetime):
            shown = format_time(value)
        else:
            shown = str(value) if isinstance(value, (str, int)) else to_json(value, for_people=True)
        output.line(join_texts(text(f"{name.replace('_', ' '):<11} ", "dim"), text(shown, STYLES.get(shown, ""))))
    output.line(text(""))


def _why_empty(path: str, status: str) -> str:
    if status == "absent":
        return ": the agent was not there yet"
    if status != "terminated":
        return ""
    return f": the session has ended; `duramen log {path}` shows what happened"


SHOW: Final = Command("show", "show an agent's working memory", _run, _add_arguments)
