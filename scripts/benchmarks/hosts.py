"""What two hosts carry together, beside one host with the same work: the server takes what they leave of the cores."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from attrs import define, frozen

from duramen.actors import Agent, AgentHandle, AgentSystem

from .figures import Kind, Sample, Series, Verdict, ratio_of
from .options import Options
from .ours import REPLY_SECONDS, change
from .rounds import Wrong, alternate
from .servers import Server
from .tables import Group, rate_table
from .work import Step, Work

__all__ = ["measure"]

_TYPE: Final = "computing"
_COMPUTING: Final = 0.001
"""Seconds of processor time that a handler takes."""
_HANDLERS_IN_FLIGHT: Final = 100
_SECONDS: Final = 600.0
_MUTATIONS: Final = "mutations"
_AT_LEAST: Final = {_MUTATIONS: 0.9, "handlers that compute for 1 ms": 1.5}


class Computing(Agent):
    """Computes for a millisecond, and then keeps a text."""

    def on_receive(self, message: Any) -> None:
        key, text = message
        until = time.thread_time() + _COMPUTING
        while time.thread_time() < until:
            pass
        self.set(key, text)


@frozen(kw_only=True)
class _Place:
    """What a host is told."""

    url: str
    namespace: str
    number: int
    agents: int
    payload: int
    in_flight: int


class _Fleet:
    """So many processes, each with agents and callers of its own in one namespace."""

    def __init__(self, server: Server, hosts: int, options: Options) -> None:
        self.server = server
        self.hosts = hosts
        self._children: list[tuple[Any, Connection]] = []
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
        for number in range(hosts):
            ours, theirs = context.Pipe()
            place = _Place(
                url=server.url,
                namespace=f"hosts-{hosts}",
                number=number,
                agents=max(1, options.agents // hosts),
                payload=options.payload,
                in_flight=max(1, options.in_flight // hosts),
            )
            process = context.Process(target=_run_host, args=(place, theirs))
            process.start()
            theirs.close()
            self._children.append((process, ours))

    def wait_until_ready(self) -> None:
        self._hear()

    def ask(self, load: str, share: int | None) -> list[float]:
        """Have each host do its share, or with None compare what is there; returns what processor time each took."""
        for _, pipe in self._children:
            pipe.send((load, share))
        return self._hear()

    def close(self) -> None:
        for process, pipe in self._children:
            pipe.close()
            process.join(10)
            process.kill()
            process.join()

    def _hear(self) -> list[float]:
        found: list[float] = []
        for _, pipe in self._children:
            if not pipe.poll(_SECONDS):
                raise Wrong("a host does not answer")
            try:
                found.append(pipe.recv())
            except EOFError:
                raise Wrong("a host has ended; see above") from None
        return found


@define(kw_only=True)
class _Load:
    """One load for all hosts of a fleet together; fleets of any size do the same work."""

    fleet: _Fleet
    load: str
    operations: int
    kind: Kind = "ours"
    note: str = ""

    @property
    def name(self) -> str:
        hosts = self.fleet.hosts
        return f"duramen: {'one host' if hosts == 1 else f'{hosts} hosts'}, {self.load}"

    def prepare(self) -> None:
        """The fleet is ready."""

    def run(self) -> Sample:
        fleet, share = self.fleet, max(1, self.operations // self.fleet.hosts)
        server, started = fleet.server.cpu_seconds(), time.perf_counter()
        cpu = sum(fleet.ask(self.load, share))
        wall = time.perf_counter() - started
        return Sample(share * fleet.hosts, wall, cpu, fleet.server.cpu_seconds() - server)

    def verify(self) -> None:
        self.fleet.ask(self.load, None)

    def close(self) -> None:
        """The fleet goes on with the next load."""


def _run_host(place: _Place, pipe: Connection) -> None:
    """Do what the other side sends, and say what processor time it took."""
    works = {load: Work(place.agents, place.payload) for load in _AT_LEAST}
    with AgentSystem.open(place.url, namespace=place.namespace, agents={_TYPE: Computing}) as system:
        handles = {
            load: [
                system.spawn(f"host-{place.number}/{'sets' if kind is None else kind}-{agent}", agent_type=kind)
                for agent in range(place.agents)
            ]
            for load, kind in zip(_AT_LEAST, (None, _TYPE), strict=True)
        }
        pipe.send(0.0)
        for load, share in _received(pipe):
            cpu = time.process_time()
            if share is None:
                _check(handles[load], works[load])
            elif load == _MUTATIONS:
                change(handles[load], works[load].steps(share), place.in_flight)
            else:
                _compute(handles[load], works[load].steps(share))
            pipe.send(time.process_time() - cpu)


def _received(pipe: Connection) -> Iterator[tuple[str, int | None]]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


def _compute(handles: list[AgentHandle], steps: list[Step]) -> None:
    waiting: deque[Any] = deque()
    for agent, key, text in steps:
        waiting.append(handles[agent].ask((key, text), block=False))
        if len(waiting) >= _HANDLERS_IN_FLIGHT:
            waiting.popleft().get(timeout=REPLY_SECONDS)
    for reply in waiting:
        reply.get(timeout=REPLY_SECONDS)


def _check(handles: list[AgentHandle], work: Work) -> None:
    for handle, expected, count in zip(handles, work.expected, work.counts, strict=True):
        if (handle.get(), handle.status().seq) != (expected, 1 + count):
            raise Wrong(f"{handle.path} does not hold what was written")


def measure(options: Options, folder: Path) -> Group:
    sizes = (options.agents * options.events, options.computed)
    pairs: list[tuple[Series, Series]] = []
    with Server(folder) as server, ExitStack() as stack:
        fleets: list[_Fleet] = []
        for hosts in (1, 2):
            fleets.append(_Fleet(server, hosts, options))
            stack.callback(fleets[-1].close)
        for fleet in fleets:
            fleet.wait_until_ready()
        for load, operations in zip(_AT_LEAST, sizes, strict=True):
            loads = [_Load(fleet=fleet, load=load, operations=operations) for fleet in fleets]
            one, two = alternate(loads, options.rounds)
            pairs.append((one, two))
    verdicts = tuple(
        Verdict(
            f"two hosts against one, with the same work: {load}",
            ratio_of(two, one, lambda sample: sample.operations / sample.wall),
            at_least=least,
            short=f"two hosts, {load}",
        )
        for (load, least), (one, two) in zip(_AT_LEAST.items(), pairs, strict=True)
    )
    rows = [series for pair in pairs for series in pair]
    tables = tuple(
        rate_table(f"Two hosts: {load}", pair, [("one host", pair[0])], "operations/s")
        for load, pair in zip(_AT_LEAST, pairs, strict=True)
    )
    return Group(
        "hosts",
        "Two hosts",
        "Each host is a process with agents and callers of its own, in one namespace; hosts of one row share its work "
        "evenly. On a machine of two cores the server takes its part of them, too.",
        tables,
        verdicts,
        tuple(rows),
    )
