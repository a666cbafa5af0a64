"""What subscribers cost a writer: one that sleeps, and many patterns."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final

from attrs import define, evolve, field

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import PathPattern
from duramen.events.model.pattern_index import PatternIndex

from .children import ask_child
from .figures import Kind, Sample, Series, Spread, Verdict, ratio_of, spread_of
from .latency import middle
from .listeners import WorkerClient, hear_many, sleep_through, watched_patterns
from .memory import Watch, resident
from .options import Options
from .ours import change, spawn_many
from .rounds import Wrong, alternate, timed, timed_calls
from .servers import Server
from .tables import Group, latency_table, number, rate_table
from .work import Work, agent_name

__all__ = ["measure"]

_TURNS: Final = 10
"""Of each writer in a round. They are short, so that what the machine does meanwhile touches both alike."""
_GROWN: Final = 16.0


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        calls = options.block * 4 // 5
        alone = _Writer(server=server, namespace="alone", calls=calls)
        asleep = _Writer(server=server, namespace="asleep", calls=calls, sleeper=True)
        turns = alternate([alone, asleep], options.rounds * 4 * _TURNS)
        slow = [_in_rounds(series) for series in turns]
        grown = ask_child(_write_past_a_sleeper, server.url, options.caught_up // 2)
        single = _Watched(server=server, namespace="single", options=options, patterns=1)
        many = _Watched(server=server, namespace="many", options=options, patterns=options.patterns)
        watched = alternate([single, many], options.rounds)
    matching = [_matching(options.patterns, options.caught_up) for _ in range(options.rounds)]
    return _group(options, slow, grown["grown"], watched, matching)


# -- a subscriber that sleeps ------------------------------------------------------------------------------------------


@define(kw_only=True)
class _Writer:
    """Awaited mutations, beside a subscriber of another process whose callback never returns, or none."""

    server: Server
    namespace: str
    calls: int
    sleeper: bool = False
    kind: Kind = "ours"
    note: str = "one caller awaiting each"
    _system: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)
    _asleep: WorkerClient | None = None
    _made: int = 0

    @property
    def name(self) -> str:
        return "duramen: writer, a subscriber sleeps" if self.sleeper else "duramen: writer, no subscriber"

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace)
        self._agent = self._system.spawn("bench/writer")
        if self.sleeper:
            self._asleep = WorkerClient(sleep_through, self.server.url, self.namespace)

    def run(self) -> Sample:
        self._made += self.calls
        return timed_calls([lambda: self._agent.set("note", "some text of forty bytes")] * self.calls, self.server)

    def verify(self) -> None:
        if self._agent.status().seq != 1 + self._made:
            raise Wrong(f"{self.name}: events are missing")
        if self._asleep is not None and self._asleep.ask(()) != 1:
            raise Wrong(f"{self.name}: the subscriber did not sleep")

    def close(self) -> None:
        if self._asleep is not None:
            self._asleep.close()
        self._system.close()


def _write_past_a_sleeper(url: str, events: int) -> dict[str, float]:
    """How much memory grows while so many events pass a subscriber that sleeps."""
    morning = threading.Event()
    work = Work(20, 60)
    with AgentSystem.open(url, namespace="overslept") as system, Watch() as watch:
        names = [agent_name(number) for number in range(20)]
        spawn_many(system, names)
        handles = [system.agent(name) for name in names]
        system.subscribe("bench/**", lambda _: morning.wait())
        change(handles, work.steps(events // 5), 1_000)
        before = resident()
        for _ in range(4):
            change(handles, work.steps(events // 5), 1_000)
            watch.look()
        morning.set()
        return {"grown": max(0, watch.most - before) / 2**20}


# -- many patterns -----------------------------------------------------------------------------------------------------


@define(kw_only=True)
class _Watched:
    """Mutations in flight, while another process has so many subscriptions."""

    server: Server
    namespace: str
    options: Options
    patterns: int
    kind: Kind = "ours"
    note: str = "the subscriptions are those of another process"
    _system: AgentSystem = field(init=False)
    _handles: list[AgentHandle] = field(init=False)
    _work: Work = field(init=False)
    _watcher: WorkerClient = field(init=False)

    @property
    def name(self) -> str:
        return f"duramen: writer, {self.patterns:,} pattern subscription{'s' if self.patterns > 1 else ''}"

    def prepare(self) -> None:
        self._work = Work(self.options.agents, self.options.payload)
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace)
        names = [agent_name(number) for number in range(self.options.agents)]
        spawn_many(self._system, names)
        self._handles = [self._system.agent(name) for name in names]
        self._watcher = WorkerClient(hear_many, self.server.url, self.namespace, self.patterns)

    def run(self) -> Sample:
        steps = self._work.steps(self.options.agents * self.options.events // 4)
        sample = timed(lambda: change(self._handles, steps, self.options.in_flight), self.server)
        self._watcher.ask(sum(self._work.counts))
        return sample

    def verify(self) -> None: ...

    def close(self) -> None:
        self._watcher.close()
        self._system.close()


def _matching(patterns: int, events: int) -> float:
    """Events a second that are matched against so many patterns."""
    index: PatternIndex[int] = PatternIndex()
    for token, pattern in enumerate(watched_patterns(patterns)):
        index.add(PathPattern.parse(pattern), token)
    chance = random.Random(1)
    paths = [("bench", f"agent-{chance.randrange(1_000)}", f"note-{chance.randrange(10)}") for _ in range(events)]
    found = 0
    started = time.perf_counter()
    for path in paths:
        found += len(index.match(path))
    taken = time.perf_counter() - started
    if found == 0:
        raise Wrong("no path matched any pattern")
    return events / taken


def _group(options: Options, slow: list[Series], grown: float, watched: list[Series], matching: list[float]) -> Group:
    (alone, asleep), (single, many) = slow, watched
    rates: Spread = spread_of(matching)
    verdicts = (
        Verdict(
            "a subscriber of another process sleeps: the writer's p99 against none",
            ratio_of(asleep, alone, _p99),
            at_most=1.2,
            remark=f"{number(ratio_of(asleep, alone, middle).middle)}× (median)",
            short="writer's p99, a subscriber sleeps",
        ),
        Verdict(
            f"memory while {options.caught_up // 2:,} events pass a subscriber that sleeps: it grows by",
            spread_of([grown]),
            at_most=_GROWN,
            unit="MiB",
            short="memory, a subscriber sleeps",
        ),
        Verdict(
            f"{options.patterns:,} pattern subscriptions: CPU of writer and server against one subscription",
            ratio_of(many, single, lambda sample: sample.cpu + sample.server),
            at_most=1.1,
            short=f"writer, {options.patterns:,} patterns",
        ),
        Verdict(
            f"matching against {options.patterns:,} patterns, a second in one process",
            rates,
            at_least=200_000,
            unit="events",
            short=f"matching {options.patterns:,} patterns",
        ),
    )
    return Group(
        "following",
        "Subscribers",
        "The sleeper's callback never returns; like the patterns, it is another process's. A hub reads every event and "
        f"matches it, but for who sleeps. The p99 is that of {len(asleep.samples[0].latencies):,} calls, made in short "
        f"turns with the other writer's; of so many p99s the middle one: {len(asleep.samples)}.",
        (
            latency_table("A single call, while a subscriber sleeps", [(alone, asleep)], "the first"),
            rate_table("Mutations a second, while another process subscribes", watched, [("the first", single)]),
        ),
        verdicts,
        (*slow, *watched),
    )


def _in_rounds(turns: Series) -> Series:
    """So many turns are one round: a p99 of a turn would hang on two calls."""
    starts = range(0, len(turns.samples), _TURNS)
    rounds = [turns.samples[start : start + _TURNS] for start in starts]
    return evolve(turns, samples=tuple(map(_together, rounds)))


def _together(samples: Sequence[Sample]) -> Sample:
    return Sample(
        sum(sample.operations for sample in samples),
        sum(sample.wall for sample in samples),
        sum(sample.cpu for sample in samples),
        sum(sample.server for sample in samples),
        tuple(taken for sample in samples for taken in sample.latencies),
    )


def _p99(sample: Sample) -> float:
    return quantiles(sample.latencies, n=100, method="inclusive")[98]
