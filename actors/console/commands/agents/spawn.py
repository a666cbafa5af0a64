"""`duramen spawn`: start a session."""

from __future__ import annotations

import argparse
from typing import Final

from ....commands import Spawn
from ...arguments import Options, add_metadata, add_path, parse_json_pair, parse_seconds
from ...command import Command
from ...exit_codes import ExitCode
from ...output import Output
from .lifecycle import send_lifecycle


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--session-id", metavar="ID", help="default: a new UUID")
    parser.add_argument("--agent-type", metavar="TYPE", help="text or UUID")
    parser.add_argument(
        "--set",
        action="append",
        type=parse_json_pair,
        metavar="KEY=JSON",
        help="put an item into working memory; may be repeated",
    )
    add_metadata(parser)
    parser.add_argument(
        "--expires-after",
        type=parse_seconds,
        metavar="SECONDS",
        help="erase the agent, and all below it, after so long without a change",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    message = Spawn(
        session_id=arguments.session_id,
        agent_type=arguments.agent_type,
        initial_state=dict(arguments.set or ()),
        metadata=dict(arguments.metadata or ()),
        expires_after=arguments.expires_after,
    )
    return send_lifecycle(arguments.path, message, options, output, create=True)


SPAWN: Final = Command("spawn", "start a session", _run, _add_arguments)
