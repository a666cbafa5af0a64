"""Reads of an agent that another process runs, beside an awaited HGET; and what many of them do to its writer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final

import redis
from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem

from .figures import Kind, Ratio, Sample, Series, Verdict, ratio_of
from .latency import middle
from .options import Options
from .rounds import Wrong, alternate, timed_calls
from .servers import Server
from .tables import Group, latency_table, number

__all__ = ["measure"]

_AGENT: Final = "bench/agent"
_GOAL: Final = "write a report"
_TARGETS: Final = {0: 1.5, 1: 1.5, 10: 2.0}
"""New events before each read, and at most how many times an HGET it may take."""
_READERS: Final = 4
_READS_A_SECOND: Final = 1_000
_BLOCKS_A_ROUND: Final = 10
"""Blocks of looks are short, so that floor and ours see the same machine."""
_WRITES: Final = 4
"""The writer makes so many blocks of calls a round: a p99 needs many."""
_MOST_OF_P99: Final = 1.2

_OWNER: Final = f"""\
import sys
from duramen.actors import AgentSystem
with AgentSystem.open(sys.argv[1], namespace=sys.argv[2]) as system:
    agent = system.spawn("{_AGENT}", initial_state={{"goal": "{_GOAL}", "number": 0}})
    print("ready", flush=True)
    number = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            number += 1
            agent.set("number", number)
        print(number, flush=True)
"""
_LOOKER: Final = f"""\
import select, sys, time
import redis
from duramen.actors import AgentSystem
url, namespace, what, rate = sys.argv[1:]
with AgentSystem.open(url, namespace=namespace) as system, redis.Redis.from_url(url) as client:
    agent = system.agent("{_AGENT}")
    look = client.ping if what == "PING" else lambda: agent.get("goal")
    look()
    print("ready", flush=True)
    while sys.stdin.readline():
        start, count = time.monotonic(), 0
        while not select.select([sys.stdin], [], [], max(0.0, start + count / float(rate) - time.monotonic()))[0]:
            look()
            count += 1
        sys.stdin.readline()
        print(count, flush=True)
"""


class _Child:
    """A program in a process of its own, talked to in lines."""

    def __init__(self, text: str, *arguments: str) -> None:
        command = [sys.executable, "-c", text, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def end(self) -> None:
        """Close its input, at which it ends."""
        self._process.communicate()
        if self._process.returncode != 0:
            raise Wrong("a child process failed; see above")

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Wrong("a child process failed; see above")
        return line.strip()


@define(kw_only=True)
class _Looks:
    """Looks of this process, each after `new` mutations by the process that runs the agent."""

    server: Server
    calls: int
    new: int
    name: str
    kind: Kind
    note: str = ""
    _owner: _Child = field(init=False)
    _written: int = 0

    @property
    def namespace(self) -> str:
        return f"{self.kind}-{self.new}"

    def prepare(self) -> None:
        self._owner = _Child(_OWNER, self.server.url, self.namespace)
        self._owner.hear()

    def time(self, look: Callable[[], object]) -> Sample:
        samples: list[Sample] = []
        for _ in range(self.calls):
            self._owner.say(str(self.new))
            self._written = int(self._owner.hear())
            samples.append(timed_calls([look]))
        latencies = tuple(latency for sample in samples for latency in sample.latencies)
        return Sample(self.calls, sum(latencies), sum(sample.cpu for sample in samples), latencies=latencies)

    def close(self) -> None:
        self._owner.end()


@define(kw_only=True)
class _Gets(_Looks):
    _client: redis.Redis = field(init=False)
    _found: object = None

    def prepare(self) -> None:
        super().prepare()
        self._client = self.server.client()
        self._client.hset("floor:hash", "goal", _GOAL)

    def run(self) -> Sample:
        return self.time(self._get)

    def _get(self) -> None:
        self._found = self._client.hget("floor:hash", "goal")

    def verify(self) -> None:
        if self._found != _GOAL.encode():
            raise Wrong("the hash does not hold the text")

    def close(self) -> None:
        super().close()
        self._client.close()


@define(kw_only=True)
class _Reads(_Looks):
    _system: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)

    def prepare(self) -> None:
        super().prepare()
        self._system = AgentSystem.open(self.server.url, namespace=self.namespace)
        self._agent = self._system.agent(_AGENT)

    def run(self) -> Sample:
        return self.time(lambda: self._agent.get("goal"))

    def verify(self) -> None:
        if self._agent.get() != {"goal": _GOAL, "number": self._written}:
            raise Wrong("the read does not show what the other process has written")

    def close(self) -> None:
        super().close()
        self._system.close()


@define(kw_only=True)
class _WriterBeside:
    """A writer that awaits each mutation of one agent, while other processes look `_READS_A_SECOND` times a second."""

    server: Server
    calls: int
    what: str
    name: str
    kind: Kind
    note: str = f"{_READERS} processes together"
    _system: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)
    _children: list[_Child] = field(factory=list[_Child])
    _written: int = 0
    _looks: int = 0

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace=f"beside-{self.what}")
        self._agent = self._system.spawn(_AGENT, initial_state={"goal": _GOAL})
        rate = str(_READS_A_SECOND / _READERS)
        for _ in range(_READERS):
            self._children.append(_Child(_LOOKER, self.server.url, f"beside-{self.what}", self.what, rate))
        for child in self._children:
            child.hear()

    def run(self) -> Sample:
        for child in self._children:
            child.say("look")
        sample = timed_calls([self._write] * self.calls, self.server)
        for child in self._children:
            child.say("rest")
        self._looks += sum([int(child.hear()) for child in self._children])
        return sample

    def _write(self) -> None:
        self._written += 1
        self._agent.set("number", self._written)

    def verify(self) -> None:
        if self._agent.get("number") != self._written:
            raise Wrong("the agent does not hold what was written")
        if self._looks == 0:
            raise Wrong("nobody has looked")

    def close(self) -> None:
        for child in self._children:
            child.end()
        self._system.close()


def _p99(sample: Sample) -> float:
    return quantiles(sample.latencies, n=100)[-1]


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        pairs = [_pair(options, server, new) for new in _TARGETS]
        verdicts = [
            Verdict(
                f"a read from another process after {new} new events, against an awaited HGET",
                ratio_of(ours, floor, middle),
                at_most=most,
                short=f"read, {new} new events",
            )
            for (new, most), (floor, ours) in zip(_TARGETS.items(), pairs, strict=True)
        ]
        calls = options.block * _WRITES
        pings, reads = alternate(
            [
                _WriterBeside(
                    server=server,
                    calls=calls,
                    what=what,
                    name=f"duramen: writer beside {_READS_A_SECOND:,} {named} a second",
                    kind=kind,
                )
                for what, named, kind in (("PING", "PINGs", "floor"), ("get", "reads", "ours"))
            ],
            options.rounds,
        )
    found: Ratio = ratio_of(reads, pings, _p99)
    verdicts.append(
        Verdict(
            f"p99 of an agent's writer beside {_READS_A_SECOND:,} reads a second by {_READERS} processes, against as "
            "many PINGs",
            found,
            at_most=_MOST_OF_P99,
            remark=f"{number(reads.of(_p99).middle * 1e6)} µs",
            short="p99 of a writer that is read",
        )
    )
    return Group(
        "reads",
        "Reads from another process",
        "The agent runs in another process, which makes the mutations before each look. Short blocks of looks in "
        "turns; the medians are of a block, the ratios of neighbouring blocks.",
        (
            latency_table("Median latency of a single look", pairs),
            latency_table("Median latency of a mutation", [(pings, reads)], "PINGs"),
        ),
        tuple(verdicts),
        (*_flat(pairs), pings, reads),
    )


def _flat(pairs: Sequence[tuple[Series, Series]]) -> tuple[Series, ...]:
    return tuple(series for pair in pairs for series in pair)


def _pair(options: Options, server: Server, new: int) -> tuple[Series, Series]:
    events = "no new event" if new == 0 else "1 new event" if new == 1 else f"{new} new events"
    calls = max(1, options.block // _BLOCKS_A_ROUND)
    floor, ours = alternate(
        [
            _Gets(server=server, calls=calls, new=new, name=f"redis-py: awaited HGET, {events}", kind="floor"),
            _Reads(server=server, calls=calls, new=new, name=f"duramen: a read, {events}", kind="ours"),
        ],
        options.rounds * _BLOCKS_A_ROUND,
    )
    return floor, ours
