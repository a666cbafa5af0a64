"""`duramen terminate`: end a session."""

from __future__ import annotations

import argparse
from typing import Final

from ....commands import Outcome, Terminate
from ...arguments import Options, add_path
from ...command import Command
from ...exit_codes import ExitCode
from ...output import Output
from .lifecycle import send_lifecycle


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], default=Outcome.SUCCESS.value)
    parser.add_argument("--description", metavar="TEXT", help="what the session was about")
    parser.add_argument("--lesson", action="append", metavar="TEXT", help="a lesson learned; may be repeated")
    parser.add_argument("--no-episode", action="store_true", help="keep nothing in episodic memory")
    parser.add_argument("--keep-memory", action="store_true", help="do not clear working memory")


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    message = Terminate(
        outcome=Outcome(arguments.outcome),
        task_description=arguments.description,
        lessons_learned=arguments.lesson or [],
        consolidate_to_episodic=not arguments.no_episode,
        cleanup_working=not arguments.keep_memory,
    )
    return send_lifecycle(arguments.path, message, options, output)


TERMINATE: Final = Command(
    "terminate", "end a session: keep it as an episode, clear working memory", _run, _add_arguments
)
