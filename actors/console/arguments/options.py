"""The arguments that several commands share, and how their texts become values."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from attrs import frozen

from duramen.events.redis.client import redact_url

from ...api import DATA_DIR

__all__ = ["Options", "add_common", "add_path", "count", "json_pair", "pairs", "seconds", "time_to_live"]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@frozen(kw_only=True)
class Options:
    """What every command takes. `url` is None for the embedded store in `data_dir`."""

    url: str | None
    data_dir: str
    namespace: str
    json: bool
    insecure: bool
    allow_eviction: bool
    verbose: bool
    given: tuple[str, ...]
    """The options that lead another command to the same store, as a person would type them."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Options:
        url: str | None = arguments.url
        data_dir: str | None = arguments.data_dir
        if url is None and data_dir is None:
            url = os.environ.get("DURAMEN_URL") or None
        given: list[str] = []
        if arguments.url is not None:
            given += ["--url", _showable(arguments.url)]
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
            given=tuple(given),
        )


def _showable(url: str) -> str:
    """A url that can be typed again; one with a secret in it is not repeated."""
    try:
        shown = redact_url(url)
    except ValueError:
        return "URL"
    return shlex.quote(url) if shown == url else "URL"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
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


def add_path(parser: argparse.ArgumentParser) -> None:
    """Add the agent that a command is about."""
    parser.add_argument("path", metavar="PATH", help="agent path, such as acme/alice")


def count(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds above 0, for argparse."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def time_to_live(text: str) -> timedelta | None:
    """`90s`, `15m`, `12h`, `7d`, `2w`; `never` is None. For argparse."""
    if text == "never":
        return None
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 15m, 12h, 7d, 2w or never")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def json_pair(text: str) -> tuple[str, Any]:
    """`KEY=JSON`, for argparse."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=JSON")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        example = shlex.quote(f"{key}={json.dumps(value)}")
        raise argparse.ArgumentTypeError(f"what follows {key}= is not JSON; a text needs quotes: {example}") from None


def pairs(given: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """The pairs of an option that may be repeated; the last one of a key counts."""
    return dict(given or ())
