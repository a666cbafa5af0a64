"""What each command takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from duramen.events import Granularity

from ...commands import DEFAULT_TTL, Outcome
from ..arguments import CommandParser, add_common, add_path, count, json_pair, time_to_live
from ..exit_codes import EXPLAINED
from .following import add_granularity, add_projections, add_watch
from .history import add_at, add_blame, add_diff, add_export, add_fork, add_import, add_replay, add_verify

__all__ = ["make_parser"]

_PARALLEL: Final = 16
_ABOUT: Final = "Long-running agents: their memory and lifecycle, durable in a log. Begin with `duramen run`."

Add = Callable[[argparse.ArgumentParser], None]


def make_parser(version: str) -> argparse.ArgumentParser:
    """The parser; the command's name is in `command`, None if there was none."""
    parser = argparse.ArgumentParser(
        prog="duramen",
        usage="duramen [-h] [--version] COMMAND ...",
        description=_ABOUT,
        epilog=f"`duramen COMMAND --help` tells what a command takes.\n\n{EXPLAINED}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"duramen {version}")
    # argparse measures the names without their indentation: the spaces make room for the longest.
    commands = parser.add_subparsers(
        dest="command",
        prog="duramen",
        metavar=f"{'COMMAND':13}",
        title="commands",
        parser_class=CommandParser,
    )
    for name, about, add in _COMMANDS:
        command = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(command)
        add_common(command)
    return parser


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="recordings: chat messages or sessions of them, JSON or JSON Lines (default: a small sample)",
    )
    parser.add_argument("--project", metavar="NAME", help="first part of the agent paths (default: the file's name)")
    parser.add_argument("--limit", type=count, metavar="N", help="take in N sessions at most")
    parser.add_argument(
        "--parallel", type=count, default=_PARALLEL, metavar="N", help=f"sessions at a time (default: {_PARALLEL})"
    )


def _none(parser: argparse.ArgumentParser) -> None:
    """Takes nothing of its own."""


def _show(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("property", nargs="?", metavar="PROPERTY", help="property path, such as plan/steps/0")
    add_at(parser)


def _log(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    add_granularity(parser, Granularity.TRACE)
    parser.add_argument(
        "--limit", type=count, metavar="N", help="N events at most: the last ones, or with --from the first"
    )
    parser.add_argument("--from", type=count, dest="start", metavar="SEQ", help="begin with this event")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")


def _spawn(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--session-id", metavar="ID", help="default: a new UUID")
    parser.add_argument("--agent-type", metavar="TYPE", help="text or UUID")
    parser.add_argument(
        "--set",
        action="append",
        type=json_pair,
        metavar="KEY=JSON",
        help="put an item into working memory; may be repeated",
    )
    _metadata(parser)


def _pause(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--checkpoint-id", metavar="ID", help="default: one is made up of the time")
    parser.add_argument(
        "--ttl",
        type=time_to_live,
        default=DEFAULT_TTL,
        metavar="TIME",
        help="how long the checkpoint is kept: 90s, 15m, 12h, 7d, 2w or never (default: 7d)",
    )
    _metadata(parser)


def _metadata(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metadata", action="append", type=json_pair, metavar="KEY=JSON", help="note a fact; may be repeated"
    )


def _resume(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="default: the latest")
    parser.add_argument(
        "--keep-current", action="store_true", help="lay the checkpoint over working memory instead of replacing it"
    )


def _terminate(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], default=Outcome.SUCCESS.value)
    parser.add_argument("--description", metavar="TEXT", help="what the session was about")
    parser.add_argument("--lesson", action="append", metavar="TEXT", help="a lesson learned; may be repeated")
    parser.add_argument("--no-episode", action="store_true", help="keep nothing in episodic memory")
    parser.add_argument("--keep-memory", action="store_true", help="do not clear working memory")


def _episodes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="show this one; the beginning of an id is enough. Or the word `search`"
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="after `search`: what to look for, best first")
    parser.add_argument("--project", metavar="NAME", help="only of this project")
    parser.add_argument("--agent", metavar="PATH", help="only of this agent")
    parser.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], help="only of sessions ended so")
    parser.add_argument("--limit", type=count, metavar="N", help="the newest N; of a search the best (default: 10)")


_COMMANDS: Final[tuple[tuple[str, str, Add], ...]] = (
    ("run", "turn recorded sessions into agents", _run),
    ("agents", "list the agents as a tree", _none),
    ("show", "show an agent's working memory", _show),
    ("log", "show what happened to an agent, a line an event", _log),
    ("watch", "show what agents do, while they do it", add_watch),
    ("spawn", "start a session", _spawn),
    ("pause", "keep working memory as a checkpoint and take no more changes", _pause),
    ("resume", "restore working memory from a checkpoint", _resume),
    ("terminate", "end a session: keep it as an episode, clear working memory", _terminate),
    ("checkpoints", "list what an agent can be resumed from", add_path),
    ("episodes", "list or search what is kept of finished sessions", _episodes),
    ("projections", "list the durable consumers of the log, and repair one", add_projections),
    ("replay", "show what each event of an agent has changed; step through it", add_replay),
    ("diff", "show what differs between two moments", add_diff),
    ("blame", "show which event has set a value", add_blame),
    ("fork", "make a new agent that goes on from a moment of another", add_fork),
    ("verify", "prove that what is stored is what was written", add_verify),
    ("export", "write an agent, or a tree of them, to a file", add_export),
    ("import", "take in what `export` has written", add_import),
    ("doctor", "look at the server: what is wrong, and what to do about it", _none),
)
