"""What the commands take that follow the log."""

from __future__ import annotations

import argparse
from typing import Final

from duramen.events import Granularity

from ..arguments import count, seconds
from ..commands import ACTIONS

__all__ = ["add_granularity", "add_projections", "add_watch"]

_PATIENCE: Final = 30.0


def add_granularity(parser: argparse.ArgumentParser, default: Granularity) -> None:
    """The finest level that is shown."""
    everything = ", which is everything" if default is Granularity.TRACE else ""
    parser.add_argument(
        "--granularity",
        choices=[level.name.lower() for level in Granularity],
        default=default.name.lower(),
        help=f"leave out what is finer than this (default: {default.name.lower()}{everything})",
    )


def add_watch(parser: argparse.ArgumentParser) -> None:
    """What `watch` takes."""
    parser.add_argument(
        "pattern",
        nargs="?",
        default="**",
        metavar="PATTERN",
        help="agent and property path; * is one segment, ** any number: 'acme/*/plan/**' (default: '**', everything)",
    )
    add_granularity(parser, Granularity.TRACE)
    parser.add_argument("--values", action="store_true", help="show what changed, old and new")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--from-start", action="store_true", help="begin with the first event there is")
    begin.add_argument("--after", metavar="CURSOR", help="go on where another `watch` has ended")
    parser.add_argument("--every", type=seconds, metavar="SECONDS", help="show what has come in, so far apart")
    parser.add_argument(
        "--latest-only", action="store_true", help="leave out what newer changes of the same paths have overtaken"
    )
    parser.add_argument("--limit", type=count, metavar="N", help="end after N changes")


def add_projections(parser: argparse.ArgumentParser) -> None:
    """What `projections` takes."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=["list", *ACTIONS],
        metavar="ACTION",
        help=f"list (default), {', '.join(ACTIONS)}: wait until it is up to date, build its view anew, try again "
        "or leave out the event it is parked at, forget it",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the consumer")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=_PATIENCE,
        metavar="SECONDS",
        help=f"give up waiting when nothing has moved for so long (default: {_PATIENCE:g})",
    )
