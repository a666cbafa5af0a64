"""One caller that awaits each call, beside an awaited RPUSH, with and without AOF."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from .figures import Ratio, Sample, Series, Verdict, ratio_of
from .floors import AwaitedPushes
from .options import Options
from .ours import AwaitedCalls
from .rounds import alternate
from .servers import Server
from .tables import Group, latency_table, number

__all__ = ["measure", "middle"]

_KEPT = {"memory": ("no AOF", 2.5, 1.5), "fsync": ("AOF always", 1.6, None)}
_BLOCKS_A_ROUND = 4
"""Blocks of calls are short, so that floor and ours see the same machine."""


def middle(sample: Sample) -> float:
    return median(sample.latencies)


def measure(options: Options, folder: Path) -> Group:
    pairs: list[tuple[Series, Series]] = []
    verdicts: list[Verdict] = []
    for kept in options.durabilities:
        how, most, aim = _KEPT[kept]
        floor, ours = _pair(options, folder, kept)
        pairs.append((floor, ours))
        what = f"one caller awaiting each, {how}: median latency against an awaited RPUSH"
        found = ratio_of(ours, floor, middle)
        cpu: Ratio = ratio_of(ours, floor, lambda sample: sample.cpu + sample.server)
        verdicts.append(
            Verdict(what, found, at_most=most, aim=aim, remark=f"{number(cpu.middle)}×", short=f"latency, {how}")
        )
    return Group(
        "latency",
        "Latency",
        f"Blocks of {options.block} calls in turns; each call is awaited before the next is made. "
        "The medians are of a block, the ratios of neighbouring blocks.",
        (latency_table("Median latency of a single call", pairs),),
        tuple(verdicts),
        tuple(series for pair in pairs for series in pair),
    )


def _pair(options: Options, folder: Path, kept: str) -> tuple[Series, Series]:
    how = _KEPT[kept][0]
    with Server(folder, durable=kept == "fsync") as server:
        floor = AwaitedPushes(
            server=server, calls=options.block, payload=options.payload, name=f"redis-py: awaited RPUSH, {how}"
        )
        ours = AwaitedCalls(
            server=server,
            namespace="awaited",
            agents=options.agents,
            calls=options.block,
            payload=options.payload,
            name=f"duramen: one caller awaiting each, {how}",
            note="agents take turns",
        )
        first, second = alternate([floor, ours], options.rounds * _BLOCKS_A_ROUND)
    return first, second
