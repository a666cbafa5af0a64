"""Many agents that live and do nothing: what one costs to spawn and to keep."""

from __future__ import annotations

import gc
import tempfile
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from duramen.actors import AgentSystem
from duramen.actors.handlers.services import Settings

from .children import ask_child
from .figures import Kind, NotMeasured, Sample, Series, Verdict, ratio_of, spread_of
from .memory import resident
from .options import Options
from .ours import spawn_many
from .rounds import Contender, Wrong, alternate, timed
from .servers import Server
from .tables import Group, Table, number, rate_table
from .throughput import cpu_ratio, rate
from .work import GOAL, agent_name

__all__ = ["measure"]

_FEW: Final = 500
"""Agents spawned first, so that what all agents share is in memory."""
_PEER: Final = "eventsourcing, SQLite: saves new aggregates"


def measure(options: Options, folder: Path) -> Group:
    with (
        Server(folder) as memory,
        Server(folder, durable=True) as fsync,
        tempfile.TemporaryDirectory(dir=folder, prefix="peers-") as store,
    ):
        contenders: list[Contender] = [
            _Spawns(server=fsync, agents=options.spawned, name="duramen: spawns, AOF always"),
            _Spawns(server=memory, agents=options.spawned, name="duramen: spawns, no AOF"),
        ]
        missing = _add_peer(contenders, Path(store), options.spawned)
        series = alternate(contenders, options.rounds)
        idle = ask_child(_keep_idle, memory.url, options.idle_agents)
    return _group(options, series, missing, idle)


@define(kw_only=True)
class _Spawns:
    """Spawns agents with many calls in flight; each is in the log when its reply is there."""

    server: Server
    agents: int
    name: str
    note: str = "4,000 calls in flight"
    kind: Kind = "ours"
    _system: AgentSystem = field(init=False)
    _numbers: Any = field(factory=count)
    _spawned: int = 0

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace="spawns", settings=Settings(passivate_after=None))

    def run(self) -> Sample:
        names = [agent_name(next(self._numbers)) for _ in range(self.agents)]
        self._spawned += self.agents
        return timed(lambda: spawn_many(self._system, names), self.server)

    def verify(self) -> None:
        seqs = [entry.head.seq for entry in self._system.agents()]
        if seqs != [1] * self._spawned:
            raise Wrong(f"{len(seqs)} agents were found, {self._spawned} were spawned")

    def close(self) -> None:
        self._system.close()


@define(kw_only=True)
class _Saves:
    """New aggregates of `eventsourcing`, saved one after the other."""

    path: Path
    agents: int
    name: str = _PEER
    note: str = "WAL, synchronous=FULL (its defaults)"
    kind: Kind = "peer"
    _application: Any = None
    _saved: list[Any] = field(factory=list[Any])

    def prepare(self) -> None:
        from .peers.eventsourcing_sqlite import open_application

        self._application = open_application(self.path)

    def run(self) -> Sample:
        return timed(self._save)

    def _save(self) -> int:
        from .peers.eventsourcing_sqlite import Memory

        for _ in range(self.agents):
            memory = Memory()
            memory.items["goal"] = GOAL
            self._application.save(memory)
            self._saved.append(memory.id)
        return self.agents

    def verify(self) -> None:
        for saved in self._saved[:: max(1, len(self._saved) // 100)]:
            if self._application.repository.get(saved).version != 1:
                raise Wrong("an aggregate is not as it was saved")

    def close(self) -> None:
        if self._application is not None:
            self._application.close()


def _add_peer(contenders: list[Contender], store: Path, agents: int) -> list[NotMeasured]:
    try:
        version("eventsourcing")
    except PackageNotFoundError:
        return [NotMeasured("peer", _PEER, "eventsourcing not installed")]
    contenders.append(_Saves(path=store / "aggregates.sqlite", agents=agents))
    return []


def _keep_idle(url: str, agents: int) -> dict[str, float]:
    """In a process of its own: resident memory before and after so many agents live in it."""
    with AgentSystem.open(url, namespace="idle", settings=Settings(passivate_after=None)) as system:
        spawn_many(system, [agent_name(number) for number in range(_FEW)])
        gc.collect()
        before = resident()
        sample = timed(lambda: spawn_many(system, (agent_name(_FEW + number) for number in range(agents))))
        gc.collect()
        after = resident()
        last = agent_name(_FEW + agents - 1)
        if system.agent(last).get("goal") != GOAL:
            raise Wrong("the last agent does not answer")
        return {"bytes": (after - before) / agents, "wall": sample.wall, "cpu": sample.cpu}


def _group(options: Options, series: list[Series], missing: list[NotMeasured], idle: dict[str, float]) -> Group:
    kilobytes = idle["bytes"] / 1_000
    verdicts = [
        Verdict(
            f"{options.idle_agents:,} live idle agents: resident memory each",
            spread_of([kilobytes]),
            at_most=6.0,
            unit="kB",
            short=f"memory of each of {options.idle_agents:,} idle agents",
        )
    ]
    against: list[tuple[str, Series]] = [("duramen, AOF always", series[0])]
    if not missing:
        peer = series[-1]
        against = [("peer", peer)]
        for ours, how in ((series[0], "AOF always"), (series[1], "no AOF")):
            what = f"spawns, {how}, against eventsourcing saving new aggregates"
            found = ratio_of(ours, peer, rate)
            verdicts.append(
                Verdict(what, found, at_least=5.0, aim=10.0, remark=cpu_ratio(ours, peer), short=f"spawns, {how}")
            )
    kept = Table(
        "Idle agents in a process of their own",
        ("group", "who", "agents", "kB each", "spawns/s", "CPU µs a spawn", "how"),
        (
            (
                "ours",
                "duramen: live, idle",
                number(options.idle_agents),
                number(kilobytes),
                number(options.idle_agents / idle["wall"]),
                number(idle["cpu"] / options.idle_agents * 1e6),
                "resident memory after less before; each has one short text in its memory",
            ),
        ),
    )
    return Group(
        "agents",
        "Agents",
        f"Rounds of {options.spawned:,} spawns. A spawn is acknowledged when its event is in the log.",
        (rate_table("Spawns a second", [*series, *missing], against, "spawns/s"), kept),
        tuple(verdicts),
        tuple(series),
    )
