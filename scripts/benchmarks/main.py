"""Measure duramen beside bare Redis and its peers, print tables, write docs/performance.md and its pictures.

The page is written when everything was measured in the usual or the full size; a part of it, or a short look, is only
printed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve

from . import (
    adapters,
    blocked,
    catching_up,
    comparison,
    durable,
    following,
    growth,
    history,
    hosts,
    latency,
    links,
    notices,
    population,
    reading,
    recovery,
    streams,
    takeover,
    throughput,
)
from .machine import describe
from .options import DURABILITIES, FULL, QUICK, USUAL, Options
from .report import summary, text_of, write
from .tables import Group

__all__ = ["GROUPS", "main", "measure"]

GROUPS: Final[dict[str, Callable[[Options, Path], Group]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "reads": reading.measure,
    "links": links.measure,
    "hosts": hosts.measure,
    "takeover": takeover.measure,
    "streams": streams.measure,
    "peers": comparison.measure,
    "adapters": adapters.measure,
    "recovery": recovery.measure,
    "agents": population.measure,
    "growth": growth.measure,
    "blocked": blocked.measure,
    "work": durable.measure,
    "notices": notices.measure,
    "following": following.measure,
    "catching-up": catching_up.measure,
    "history": history.measure,
}

_ROOT: Final = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    options = _options(parsed)
    build = _ROOT / "build"
    build.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=build))  # on the project's disk: a sync there costs something
    try:
        machine = describe(folder)
        print("\n".join(machine), flush=True)
        groups = measure(options, folder)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{summary(groups)}")
    if parsed.quick or options.only or options.durabilities != DURABILITIES:
        print("\nnothing written: this was a part, or a short look")
        return 0
    how = "scripts/bench --full" if parsed.full else "scripts/bench"
    changed = [f"--{name} {getattr(parsed, name)}" for name in _SIZES if getattr(parsed, name) is not None]
    for path in write(_ROOT, groups, machine, " ".join([how, *changed])):
        print(f"written: {path}")
    return 0


def measure(options: Options, folder: Path) -> list[Group]:
    """Measure the groups that are asked for, and print each when it is done."""
    groups: list[Group] = []
    for name, measured in GROUPS.items():
        if options.only and name not in options.only:
            continue
        started = time.monotonic()
        group = measured(options, folder)
        print(f"\n{text_of(group)}\n({name}: {time.monotonic() - started:.0f} s)", flush=True)
        groups.append(group)
    return groups


_SIZES: Final = {
    "agents": "agents (200)",
    "events": "mutations per agent, in a round; of the peers in all rounds together (100)",
    "payload": "bytes of the text that a mutation sets (60)",
    "rounds": "rounds in which the contenders take turns (5)",
    "processes": "client processes; beyond 1, their common throughput is measured too (1)",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a short look at small sizes; writes nothing")
    size.add_argument(
        "--full", action="store_true", help="100,000 agents and logs of 1,000,000 events where targets name them"
    )
    for name, what in _SIZES.items():
        parser.add_argument(f"--{name}", type=_count, metavar="N", help=what)
    parser.add_argument(
        "--durability", choices=DURABILITIES, help="throughput and latency on a server of this kind only"
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=f"one of {', '.join(GROUPS)}")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _options(parsed: argparse.Namespace) -> Options:
    options = QUICK if parsed.quick else FULL if parsed.full else USUAL
    given = {name: getattr(parsed, name) for name in _SIZES if getattr(parsed, name) is not None}
    if parsed.durability is not None:
        given["durabilities"] = (parsed.durability,)
    return evolve(options, **given, only=tuple(parsed.only or ()))
