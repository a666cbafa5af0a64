"""Arguments that several commands share, and the parsing of their texts."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from attrs import frozen

from duramen.events import Granularity
from duramen.events.redis.client import redact_url

from ...api import DATA_DIR

_LIMIT: Final = 1_000
_OPTIONS: Final = {
    "session_id": "--session-id",
    "agent_type": "--agent-type",
    "initial_state": "--set",
    "metadata": "--metadata",
    "checkpoint_id": "the checkpoint id",
    "task_description": "--description",
    "lessons_learned": "--lesson",
    "data_dir": "--data-dir",
    "insecure=True": "--insecure",
    "allow_eviction=True": "--allow-eviction",
    "allow_eviction": "--allow-eviction",
}
_SHOWN: Final = 80
_NAMES: Final = re.compile(rf"(?<![\w/-])({'|'.join(_OPTIONS)})(/|(?![\w-]))")


@frozen(kw_only=True)
class Options:
    """The values of the common options. `url` is None for the embedded store in `data_dir`."""

    url: str | None
    data_dir: str
    namespace: str
    json: bool
    insecure: bool
    allow_eviction: bool
    verbose: bool
    debug: bool
    given: tuple[str, ...]
    """The options that make another command use the same store, quoted for a shell."""

    @property
    def folder(self) -> str:
        """The folder of the embedded store, as an absolute path."""
        return str(Path(self.data_dir).resolve())

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Options:
        url: str | None = arguments.url
        data_dir: str | None = arguments.data_dir
        if url is None and data_dir is None:
            url = os.environ.get("DURAMEN_URL") or None
        given: list[str] = []
        if arguments.url is not None:
            given += ["--url", _quote_url(arguments.url)]
        if data_dir is not None:
            given += ["--data-dir", shlex.quote(data_dir)]
        if arguments.namespace != "default":
            given += ["--namespace", shlex.quote(arguments.namespace)]
        given += ["--insecure"] * arguments.insecure + ["--allow-eviction"] * arguments.allow_eviction
        return cls(
            url=url,
            data_dir=data_dir or DATA_DIR,
            namespace=arguments.namespace,
            json=arguments.json,
            insecure=arguments.insecure,
            allow_eviction=arguments.allow_eviction,
            verbose=arguments.verbose,
            debug=arguments.debug,
            given=tuple(given),
        )


def _quote_url(url: str) -> str:
    """The url quoted for a shell; the word `URL` for one with a secret in it."""
    try:
        shown = redact_url(url)
    except ValueError:
        return "URL"
    return shlex.quote(url) if shown == url else "URL"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("common options")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--url", metavar="URL", help="server: redis://, rediss://, unix:// or memory:// (or set DURAMEN_URL)"
    )
    where.add_argument(
        "--data-dir", metavar="DIR", help=f"where the embedded server keeps its data (default: {DATA_DIR})"
    )
    group.add_argument("--namespace", default="default", metavar="NAME", help="which namespace (default: default)")
    group.add_argument("--json", action="store_true", help="print JSON for programs")
    group.add_argument("--insecure", action="store_true", help="let redis:// leave this machine in the clear")
    group.add_argument(
        "--allow-eviction", action="store_true", help="use a server that may remove logs when memory runs short"
    )
    group.add_argument("-v", "--verbose", action="store_true", help="log to stderr what happens inside")
    group.add_argument("--debug", action="store_true", help="show where an error comes from")


def add_path(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the agent."""
    parser.add_argument("path", metavar="PATH", help="agent path, such as acme/alice")


def add_path_or_all(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names one agent, and `--limit` for where it names none."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="agent path (default: all agents)")
    parser.add_argument(
        "--limit",
        type=parse_count,
        default=_LIMIT,
        metavar="N",
        help=f"at most so many of all agents (default: {_LIMIT})",
    )


def add_work(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name an agent's work: the agent, and the seq of the message that began it."""
    add_path(parser)
    parser.add_argument(
        "work", type=parse_count, metavar="SEQ", help="the seq of its message, as `unfinished` shows it"
    )


def add_command_id(parser: argparse.ArgumentParser) -> None:
    """Add `--command-id`, by which the log knows a message that is sent again; by default each run has its own."""
    parser.add_argument(
        "--command-id",
        default=str(uuid4()),
        metavar="ID",
        help="sent again with the same id, it is done once (default: a new one)",
    )


def add_granularity(parser: argparse.ArgumentParser, default: Granularity) -> None:
    """Add `--granularity`, the finest level that is shown."""
    everything = ", which is everything" if default is Granularity.TRACE else ""
    parser.add_argument(
        "--granularity",
        choices=[level.name.lower() for level in Granularity],
        default=default.name.lower(),
        help=f"leave out what is finer than this (default: {default.name.lower()}{everything})",
    )


def add_metadata(parser: argparse.ArgumentParser) -> None:
    """Add `--metadata KEY=JSON`, which may be repeated; the last value of a key counts."""
    parser.add_argument(
        "--metadata", action="append", type=parse_json_pair, metavar="KEY=JSON", help="note a fact; may be repeated"
    )


def with_options(message: str) -> str:
    """The message with the options of the command in place of the arguments of Python."""
    return _NAMES.sub(lambda found: _OPTIONS[found[1]] + (" " if found[2] else ""), message)


def parse_count(text: str) -> int:
    """A whole number from 1 on. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def parse_port(text: str) -> int:
    """A port; 0 stands for a free one. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def parse_seconds(text: str) -> float:
    """A number of seconds above 0. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def parse_json(text: str) -> Any:
    """A value in JSON. Raises ArgumentTypeError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        example = shlex.quote(json.dumps(text)) if len(text) < _SHOWN else "'\"…\"'"
        raise argparse.ArgumentTypeError(f"this is not JSON; a text needs quotes: {example}") from None


def parse_json_pair(text: str) -> tuple[str, Any]:
    """The key and the value of `KEY=JSON`. Raises ArgumentTypeError."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=JSON")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        example = shlex.quote(f"{key}={json.dumps(value)}")
        raise argparse.ArgumentTypeError(f"what follows {key}= is not JSON; a text needs quotes: {example}") from None
