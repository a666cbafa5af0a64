"""`duramen fork`: a new agent that goes on from a moment of another's past."""

from __future__ import annotations

import argparse

from duramen.events import AgentPath

from ..arguments import Options, moment
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, text

__all__ = ["fork"]


def fork(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Make it, and say where it comes from."""
    path, to = AgentPath.parse(arguments.path).text, AgentPath.parse(arguments.to).text
    at = None if arguments.at is None else moment(arguments.at)
    with opened(options) as system:
        system.fork(path, at, to=to, tree=arguments.tree, session_id=arguments.session_id)
        origin = system.origin(to)
        state = system.peek(to)
    seq = None if origin is None else origin.seq
    if output.as_json:
        told = {"agent": to, "origin": path, "origin_seq": seq, "seq": state.seq}
        output.data({**told, "status": state.status, "session_id": state.session_id})
    else:
        output.line(text(f"{to}: forked from {path}@{seq}, {state.status} (seq {state.seq})"))
    return ExitCode.OK
