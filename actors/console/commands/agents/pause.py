"""`duramen pause`: keep working memory as a checkpoint."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Final

from ....commands import DEFAULT_TTL, Pause
from ...arguments import Options, add_metadata, add_path
from ...command import Command
from ...exit_codes import ExitCode
from ...output import Output
from .lifecycle import send_lifecycle

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--checkpoint-id", metavar="ID", help="default: one is made up of the time")
    parser.add_argument(
        "--ttl",
        type=_parse_ttl,
        default=DEFAULT_TTL,
        metavar="TIME",
        help="how long the checkpoint is kept: 90s, 15m, 12h, 7d, 2w or never (default: 7d)",
    )
    add_metadata(parser)


def _parse_ttl(text: str) -> timedelta | None:
    if text == "never":
        return None
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 15m, 12h, 7d, 2w or never")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    message = Pause(checkpoint_id=arguments.checkpoint_id, ttl=arguments.ttl, metadata=dict(arguments.metadata or ()))
    return send_lifecycle(arguments.path, message, options, output)


PAUSE: Final = Command("pause", "keep working memory as a checkpoint and take no more changes", _run, _add_arguments)
