"""Whether an append costs more when there are many agents, or when its log is long."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem
from duramen.actors.handlers.services import Settings

from .figures import Kind, Ratio, Sample, Series, Verdict, ratio_of
from .latency import middle
from .options import Options
from .ours import spawn_many
from .recovery import fill
from .rounds import Wrong, alternate, timed_calls
from .servers import Server
from .tables import Group, Table, latency_table, number
from .work import agent_name

__all__ = ["measure"]

_FEW_AGENTS: Final = 100
_FEW_EVENTS: Final = 1_000
_MOST: Final = 1.3


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        few = _Appends(server=server, namespace="few", agents=_FEW_AGENTS, calls=options.block)
        many = _Appends(server=server, namespace="crowd", agents=options.grown_agents, calls=options.block)
        crowd = alternate([few, many], options.rounds * 4)
        for namespace, events in (("short", _FEW_EVENTS), ("long", options.grown_events)):
            fill(server, namespace, events, options.payload)
        short = _Appends(server=server, namespace="short", agents=1, calls=options.block, events=_FEW_EVENTS)
        long = _Appends(server=server, namespace="long", agents=1, calls=options.block, events=options.grown_events)
        logs = alternate([short, long], options.rounds * 4)
    return _group(options, crowd, logs)


@define(kw_only=True)
class _Appends:
    """Single appends, each awaited: of an agent drawn by chance from many, or of one with a log of `events`."""

    server: Server
    namespace: str
    agents: int
    calls: int
    events: int = 0
    note: str = "one caller awaiting each"
    kind: Kind = "ours"
    _system: AgentSystem = field(init=False)
    _handles: list[AgentHandle] = field(init=False)
    _random: random.Random = field(factory=lambda: random.Random(1))
    _made: int = 0

    @property
    def name(self) -> str:
        if self.events:
            return f"duramen: append to a log of {self.events:,} events"
        return f"duramen: append among {self.agents:,} live agents"

    def prepare(self) -> None:
        settings = Settings(passivate_after=None)
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace, settings=settings)
        names = [agent_name(number) for number in range(self.agents)]
        if not self.events:
            spawn_many(self._system, names)
        self._handles = [self._system.agent(name) for name in names]

    def run(self) -> Sample:
        self._made += self.calls
        chosen = self._random.choices(self._handles, k=self.calls)
        return timed_calls([_append(handle) for handle in chosen], self.server)

    def verify(self) -> None:
        found = sum(entry.head.seq for entry in self._system.agents())
        wanted = self._made + (self.events or self.agents)
        if found != wanted:
            raise Wrong(f"{self.name}: the logs hold {found} events, not {wanted}")

    def close(self) -> None:
        self._system.close()


def _append(handle: AgentHandle) -> Callable[[], object]:
    return lambda: handle.set("note", "some text of about forty bytes, as before")


def _group(options: Options, crowd: list[Series], logs: list[Series]) -> Group:
    verdicts: list[Verdict] = []
    tables: list[Table] = []
    for (small, large), what in (
        (crowd, f"{options.grown_agents:,} live agents against {_FEW_AGENTS:,}"),
        (logs, f"{options.grown_events:,} events in the log against {_FEW_EVENTS:,}"),
    ):
        found = ratio_of(large, small, middle)
        cpu: Ratio = ratio_of(large, small, lambda sample: sample.cpu + sample.server)
        remark = f"{number(cpu.middle)}×"
        verdicts.append(
            Verdict(f"cost of one append: {what}", found, at_most=_MOST, remark=remark, short=f"append, {what}")
        )
        tables.append(latency_table(f"One append: {what}", [(small, large)], "the first"))
    return Group(
        "growth",
        "Growth",
        f"Blocks of {options.block} appends in turns, each awaited. All agents of both systems live in one process.",
        tuple(tables),
        tuple(verdicts),
        (*crowd, *logs),
    )
