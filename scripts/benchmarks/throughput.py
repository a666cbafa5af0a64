"""Acknowledged mutations a second, many calls in flight, beside the pipelined floor, with and without AOF."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import evolve

from .figures import NotMeasured, Ratio, Sample, Series, Verdict, ratio_of
from .floors import PipelinedPushes
from .options import Options
from .ours import CallsInFlight
from .processes import several_processes
from .rounds import Contender, alternate
from .servers import Server
from .tables import Group, number, rate_table

__all__ = ["cpu_ratio", "measure", "rate"]

_RARELY: Final = 10_000
_KEPT: Final = {"memory": "no AOF", "fsync": "AOF always"}


def rate(sample: Sample) -> float:
    return sample.operations / sample.wall


def cpu_ratio(above: Series, below: Series) -> str:
    """As the rates' ratio would be if only the caller's CPU counted."""
    found: Ratio = ratio_of(above, below, lambda sample: sample.operations / sample.cpu)
    return f"{number(found.middle)}×"


def measure(options: Options, folder: Path) -> Group:
    servers = {kept: Server(folder, durable=kept == "fsync") for kept in options.durabilities}
    try:
        contenders = [row for kept, server in servers.items() for row in _contenders(options, server, kept)]
        series = alternate(contenders, options.rounds)
        more = several_processes(options, next(iter(servers.values())).url)
    finally:
        for server in servers.values():
            server.close()
    return _group(options, series, more)


def _contenders(options: Options, server: Server, kept: str) -> list[Contender]:
    mutations, how = options.agents * options.events, _KEPT[kept]
    ours = CallsInFlight(
        server=server,
        namespace="few",
        agents=options.agents,
        mutations=mutations,
        in_flight=options.in_flight,
        payload=options.payload,
        name=f"duramen: {options.agents:,} agents, {options.in_flight:,} in flight, {how}",
        note="one caller, one process",
    )
    floor = PipelinedPushes(
        server=server,
        agents=options.agents,
        mutations=mutations,
        payload=options.payload,
        name=f"redis-py: pipelined RPUSH + PUBLISH, {how}",
    )
    if kept == "fsync":
        return [floor, ours]
    many = CallsInFlight(
        server=server,
        namespace="many",
        agents=options.many_agents,
        mutations=max(mutations, 2 * options.many_agents),
        in_flight=options.many_agents,
        payload=options.payload,
        name=f"duramen: {options.many_agents:,} agents, one in flight each, {how}",
        note="one caller, one process",
    )
    rarely = evolve(
        many,
        namespace="rarely",
        name=f"duramen: {options.many_agents:,} agents, collected rarely, {how}",
        note=f"as the row above, with gc.set_threshold({_RARELY:_}, ...)",
        collect_after=_RARELY,
    )
    return [floor, ours, many, rarely]


def _group(options: Options, series: list[Series], more: tuple[Series | NotMeasured, ...]) -> Group:
    both = len(options.durabilities) == 2
    verdicts: list[Verdict] = []
    against = [("floor", series[0])]
    few_short = f"throughput, {options.in_flight:,} calls of {options.agents:,} agents"
    many_short = f"throughput, one call each of {options.many_agents:,} agents"
    if "memory" in options.durabilities:
        floor, few, many = series[:3]
        what = f"{options.agents:,} agents, {options.in_flight:,} calls in flight, against the pipelined floor"
        found = ratio_of(few, floor, rate)
        verdicts.append(Verdict(what, found, at_least=1.2, aim=2.0, remark=cpu_ratio(few, floor), short=few_short))
        what = f"{options.many_agents:,} agents, one call in flight each, against the pipelined floor"
        found = ratio_of(many, floor, rate)
        verdicts.append(Verdict(what, found, at_least=0.5, aim=1.0, remark=cpu_ratio(many, floor), short=many_short))
    if both:
        few, synced = series[1], series[-1]
        what = "AOF always, many callers, against no AOF"
        found = ratio_of(synced, few, rate)
        verdicts.append(
            Verdict(what, found, at_least=0.7, remark=cpu_ratio(synced, few), short="throughput with AOF always")
        )
    rows: list[Series | NotMeasured] = [*series, *more]
    return Group(
        "throughput",
        "Throughput",
        f"Each mutation sets a text of {options.payload} bytes under one of ten keys. A receipt comes back for each; "
        "afterwards the number of events of every agent and the state of 200 of them are read back and compared. "
        "The floor pushes and publishes the very bytes that duramen stores for such a mutation, and keeps no state.",
        (rate_table("Acknowledged mutations a second", rows, against),),
        tuple(verdicts),
        tuple(series),
    )
