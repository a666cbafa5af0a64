"""`duramen erase`: remove all that is stored of an agent, for good."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import InvalidMessage
from duramen.events.model import count_of

from ...arguments import Options, add_path
from ...command import Command
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, clean, text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--yes", action="store_true", help="really: nothing of it can be brought back")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    if not arguments.yes:
        raise InvalidMessage(f"this removes {arguments.path} and all below it for good; say so with --yes")
    with opened(options) as system, output.waiting(f"erasing {clean(arguments.path)}"):
        erasure = system.erase(arguments.path)
    if output.as_json:
        output.data(
            {
                "agents": list(erasure.agents),
                "events": erasure.events,
                "checkpoints": erasure.checkpoints,
                "episodes": erasure.episodes,
                "rebuilt": list(erasure.rebuilt),
                "unreached": list(erasure.unreached),
            }
        )
        return ExitCode.OK
    kept = {"event": erasure.events, "checkpoint": erasure.checkpoints, "episode": erasure.episodes}
    counts = ", ".join(count_of(number, what) for what, number in kept.items())
    output.show(text(f"erased {count_of(len(erasure.agents), 'agent')}: {counts}"))
    for name in erasure.rebuilt:
        output.show(text(f"consumer {name} rebuilds its view"))
    output.show(text("not reached:"))
    for what in erasure.unreached:
        output.show(text(f"  {what}"))
    return ExitCode.OK


ERASE: Final = Command("erase", "remove an agent and all below it, for good", _run, _add_arguments)
