"""`duramen resume`: restore working memory from a checkpoint."""

from __future__ import annotations

import argparse
from typing import Final

from ....commands import Resume
from ...arguments import Options, add_path
from ...command import Command
from ...exit_codes import ExitCode
from ...output import Output
from .lifecycle import send_lifecycle


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="default: the latest")
    parser.add_argument(
        "--keep-current", action="store_true", help="lay the checkpoint over working memory instead of replacing it"
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    message = Resume(checkpoint_id=arguments.checkpoint, clear_current=not arguments.keep_current)
    return send_lifecycle(arguments.path, message, options, output)


RESUME: Final = Command("resume", "restore working memory from a checkpoint", _run, _add_arguments)
