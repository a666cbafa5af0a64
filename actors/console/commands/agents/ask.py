"""`duramen ask`: send an agent a message of its own, and print the reply."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final, cast

import attrs

from duramen.events import AgentPath, UnknownMessageType
from duramen.events.model import DECLARED, describe_type

from ....handlers import AgentFactory
from ...arguments import (
    Options,
    add_command_id,
    add_import,
    add_path,
    import_named,
    load_named,
    parse_json,
    parse_seconds,
)
from ...command import Command
from ...errors import UnusableCode
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output

_TIMEOUT: Final = 30.0
_PLAIN: Final = (type(None), bool, int, float, str, bytes, datetime, Enum)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("type", metavar="TYPE", help="name of a message type, as @message_type has declared it")
    parser.add_argument(
        "fields", nargs="?", type=parse_json, default={}, metavar="JSON", help="the message's fields, a JSON object"
    )
    add_import(parser)
    parser.add_argument(
        "--timeout",
        type=parse_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help=f"how long to wait for the reply (default: {_TIMEOUT:g})",
    )
    add_command_id(parser)


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    name = AgentPath.parse(arguments.path).text
    agents: dict[str, AgentFactory] = {}
    for wanted in arguments.imports:
        agents |= _import(wanted)
    message = _make_message(arguments.type, arguments.fields)
    with opened(options, agents=agents) as system:
        reply = system.agent(name).ask(message, timeout=arguments.timeout, command_id=arguments.command_id)
    shown = _to_data(reply)
    if output.as_json:
        output.data(shown)
    else:
        output.value(shown)
    return ExitCode.OK


def _import(wanted: str) -> Mapping[str, AgentFactory]:
    """Import a module, or what `MODULE:NAME` names: the agent types with which this command handles the message."""
    if ":" not in wanted:
        import_named(wanted)
        return {}
    found = load_named(wanted)
    if not isinstance(found, Mapping):
        raise UnusableCode(f"{wanted} is a {type(found).__name__}; give a mapping of agent types to classes")
    return cast("Mapping[str, AgentFactory]", found)


def _make_message(name: str, fields: object) -> Any:
    known = DECLARED.message_types()
    if name not in known:
        others = f"; known are {', '.join(sorted(known))}" if known else ""
        raise UnknownMessageType(f"no message type {name!r} is declared; --import the module that declares it{others}")
    if not isinstance(fields, dict):
        raise UnusableCode(f"the fields of a message are a JSON object, not {json.dumps(fields)[:80]}")
    return DECLARED.load_message(name, 1, cast("dict[str, Any]", fields))


def _to_data(reply: Any) -> Any:
    """A reply as plain data: objects as dicts of their fields."""
    kind = cast("type[Any]", type(reply))
    if attrs.has(kind):
        return {field.name: _to_data(getattr(reply, field.name)) for field in attrs.fields(kind)}
    names = cast("tuple[str, ...]", getattr(kind, "_fields", ()))  # of a named tuple, such as a Receipt
    if names:
        return {name: _to_data(getattr(reply, name)) for name in names}
    if isinstance(reply, Mapping):
        return {str(key): _to_data(value) for key, value in cast("Mapping[Any, Any]", reply).items()}
    if isinstance(reply, (list, tuple)):
        return [_to_data(value) for value in cast("list[Any]", reply)]
    return reply if isinstance(reply, _PLAIN) else f"<{describe_type(reply)}>"


ASK: Final = Command("ask", "send an agent a message of its own and print the reply", _run, _add_arguments)
