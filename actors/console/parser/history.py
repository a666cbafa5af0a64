"""What the commands take that look back, prove and carry."""

from __future__ import annotations

import argparse
from typing import Final

from ..arguments import EXPLAINED, add_path, count
from ..commands import WORKERS

__all__ = [
    "add_at",
    "add_blame",
    "add_diff",
    "add_export",
    "add_fork",
    "add_import",
    "add_replay",
    "add_verify",
]

_MOST_WORKERS: Final = 64


def add_at(parser: argparse.ArgumentParser) -> None:
    """A moment."""
    parser.add_argument("--at", metavar="MOMENT", help=f"as it was then: {EXPLAINED}")


def add_replay(parser: argparse.ArgumentParser) -> None:
    """What `replay` takes."""
    add_path(parser)
    parser.add_argument("--step", action="store_true", help="one event a screen; the arrow keys go forward and back")
    parser.add_argument("--from", type=count, dest="start", metavar="SEQ", help="begin with this event")
    parser.add_argument("--to", type=count, dest="end", metavar="SEQ", help="end with this event")


def add_diff(parser: argparse.ArgumentParser) -> None:
    """What `diff` takes."""
    add_path(parser)
    parser.add_argument("a", nargs="?", metavar="A", help=f"the one moment: {EXPLAINED}")
    parser.add_argument("b", nargs="?", metavar="B", help="the other moment (default: now)")
    parser.add_argument("--other", metavar="PATH", help="B is a moment of this agent")


def add_blame(parser: argparse.ArgumentParser) -> None:
    """What `blame` takes."""
    add_path(parser)
    parser.add_argument("property", nargs="?", default="", metavar="PROPERTY", help="property path (default: all)")
    add_at(parser)


def add_fork(parser: argparse.ArgumentParser) -> None:
    """What `fork` takes."""
    add_path(parser)
    add_at(parser)
    parser.add_argument("--to", required=True, metavar="NEW", help="path of the new agent")
    parser.add_argument("--tree", action="store_true", help="with all agents below it, as they were together")
    parser.add_argument("--session-id", metavar="ID", help="default: a new UUID")


def add_verify(parser: argparse.ArgumentParser) -> None:
    """What `verify` takes."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="agents (default: all); with --replay also files of recorded logs"
    )
    parser.add_argument("--tree", action="store_true", help="with all agents below these")
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help=f"look at so many agents at a time (default: {WORKERS}); with --replay, so many processes (default: as "
        "many as there are processors for)",
    )
    replay = parser.add_argument_group("whether today's code makes of a log what was made of it then")
    replay.add_argument("--replay", action="store_true", help="check this instead; of each difference, make a test")
    replay.add_argument("--tests", default=".", metavar="DIR", help="where these tests go (default: here)")
    replay.add_argument(
        "--import",
        action="append",
        dest="imports",
        metavar="MODULE",
        help="a module of yours that declares event types and upcasters; may be repeated",
    )


def _workers(text: str) -> int:
    found = count(text)
    if found > _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST_WORKERS}")
    return found


def add_export(parser: argparse.ArgumentParser) -> None:
    """What `export` takes."""
    add_path(parser)
    parser.add_argument("file", metavar="FILE", help="where to write, - for stdout; a file that is there is replaced")
    parser.add_argument("--tree", action="store_true", help="with all agents below it")
    parser.add_argument(
        "--jsonl", action="store_true", help="the events as JSON Lines for other tools; `import` does not read this"
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """What `import` takes."""
    parser.add_argument("file", metavar="FILE", help="what `export` has written, - for stdin")
    parser.add_argument("--to", metavar="PATH", help="as this agent (default: as the one it was)")
