"""`duramen fork`: a new agent that goes on from a moment of another agent's past."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import AgentPath

from ...arguments import Options, add_at, add_path, parse_json_pair, parse_moment
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, clean, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    add_at(parser)
    parser.add_argument("--to", required=True, metavar="NEW", help="path of the new agent")
    parser.add_argument("--tree", action="store_true", help="with all agents below it, as they were together")
    parser.add_argument("--session-id", metavar="ID", help="default: a new UUID")
    parser.add_argument("--continue-work", action="store_true", help="go on with the work that was not at its end")
    parser.add_argument(
        "--instead",
        action="append",
        type=parse_json_pair,
        metavar="STEP=JSON",
        help="with --continue-work: the result of a step that is under way, which does not run; may be repeated",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path, to = AgentPath.parse(arguments.path).text, AgentPath.parse(arguments.to).text
    at = None if arguments.at is None else parse_moment(arguments.at)
    with opened(options) as system, output.waiting(f"forking {clean(path)}"):
        system.fork(
            path,
            at,
            to=to,
            tree=arguments.tree,
            session_id=arguments.session_id,
            continue_work=arguments.continue_work,
            instead=None if arguments.instead is None else dict(arguments.instead),
        )
        origin = system.origin(to)
        state = system.peek(to)
    seq = None if origin is None else origin.seq
    if output.as_json:
        fork = {"agent": to, "origin": path, "origin_seq": seq, "seq": state.seq}
        output.data({**fork, "status": state.status, "session_id": state.session_id})
    else:
        output.line(text(f"{to}: forked from {path}@{seq}, {state.status} (seq {state.seq})"))
    return ExitCode.OK


FORK: Final = Command("fork", "make a new agent that goes on from a moment of another", _run, _add_arguments)
