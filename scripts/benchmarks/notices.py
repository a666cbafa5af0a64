"""How long after a commit another process's callback runs, beside Redis Pub/Sub alone; at rest and under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import redis
from attrs import define, field

from duramen.actors import AgentHandle, AgentSystem

from .figures import Kind, Sample, Series, Verdict, ratio_of
from .latency import middle
from .listeners import CHANNEL, WorkerClient, hear_redis, hear_us, load_redis, load_us
from .options import Options
from .rounds import Wrong, alternate
from .servers import Server
from .tables import Group, latency_table

__all__ = ["measure"]

_NAMESPACE: Final = "told"
_PAUSE: Final = 0.001
"""Seconds between two probes, so that each finds the listener waiting."""


def measure(options: Options, folder: Path) -> Group:
    pairs: list[tuple[Series, Series]] = []
    verdicts: list[Verdict] = []
    for rate, how in ((0, "at rest"), (options.load, f"under {options.load:,} events/s")):
        bare, ours = _pair(options, folder, rate, how)
        pairs.append((bare, ours))
        what = f"notification, commit acknowledged to callback in another process, {how}: against bare Pub/Sub"
        verdicts.append(Verdict(what, ratio_of(ours, bare, middle), at_most=3.0, short=f"notification, {how}"))
    return Group(
        "notices",
        "Notifications",
        "From a publisher to another process. Bare: from the call of PUBLISH to the message in redis-py's hands. "
        "duramen: from the acknowledged commit to the subscription's callback, which gets the event decoded, its "
        "digest checked against the one before. The load comes from a third process and is heard as well.",
        (latency_table("Median latency of a notification", pairs),),
        tuple(verdicts),
        tuple(series for pair in pairs for series in pair),
    )


def _pair(options: Options, folder: Path, rate: int, how: str) -> tuple[Series, Series]:
    # A server each: the load of one must not keep the other's server busy.
    with ExitStack() as stack:
        first, second = (stack.enter_context(Server(folder)) for _ in range(2))
        bare = _Bare(server=first, probes=options.block, rate=rate, payload=options.payload, how=how)
        ours = _Ours(server=second, probes=options.block, rate=rate, payload=options.payload, how=how)
        one, other = alternate([bare, ours], options.rounds * 2)
    return one, other


@define(kw_only=True)
class _Probes:
    """Sends probes one after the other and asks the listener when it heard them."""

    server: Server
    probes: int
    rate: int
    payload: int
    how: str
    kind: Kind = "floor"
    note: str = ""
    _listener: WorkerClient = field(init=False)
    _sent: int = 0

    def probe(self, send: Callable[[str], object], *, from_the_call: bool) -> Sample:
        first, rest = self._sent, threading.Event()
        before: list[float] = []
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(first, first + self.probes):
            rest.wait(_PAUSE)
            text = f"probe {number} ".ljust(self.payload, "x")
            if from_the_call:
                before.append(time.perf_counter())
            send(text)
            if not from_the_call:
                before.append(time.perf_counter())
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        self._sent += self.probes
        heard = self._listener.ask((first, self._sent))
        if None in heard:
            raise Wrong(f"{sum(found is None for found in heard)} notifications never came")
        # The callback may run before the caller has its receipt: that is no negative time, but none.
        latencies = tuple(max(1e-9, after - sent) for sent, after in zip(before, heard, strict=True))
        return Sample(self.probes, wall, cpu, 0.0, latencies)

    def verify(self) -> None: ...


@define(kw_only=True)
class _Bare(_Probes):
    _client: redis.Redis = field(init=False)

    @property
    def name(self) -> str:
        return f"redis-py: PUBLISH to message, {self.how}"

    def prepare(self) -> None:
        self._client = self.server.client()
        self._listener = WorkerClient(hear_redis, self.server.socket_path)

    def run(self) -> Sample:
        load = WorkerClient(load_redis, self.server.socket_path, self.rate, self.payload) if self.rate else None
        try:
            return self.probe(lambda text: self._client.publish(CHANNEL, text), from_the_call=True)
        finally:
            if load is not None:
                load.close()

    def close(self) -> None:
        self._listener.close()
        self._client.close()


@define(kw_only=True)
class _Ours(_Probes):
    kind: Kind = "ours"
    note: str = "events are taken from the message where they continue what was read, else read from the log"
    _system: AgentSystem = field(init=False)
    _agent: AgentHandle = field(init=False)

    @property
    def name(self) -> str:
        return f"duramen: commit to callback, {self.how}"

    def prepare(self) -> None:
        self._system = AgentSystem.open(self.server.url, namespace=_NAMESPACE)
        self._agent = self._system.spawn("bench/probe")
        self._listener = WorkerClient(hear_us, self.server.url, _NAMESPACE)

    def run(self) -> Sample:
        arguments = (self.server.url, _NAMESPACE, self.rate, self.payload)
        load = WorkerClient(load_us, *arguments) if self.rate else None
        try:
            return self.probe(lambda text: self._agent.set("note", text), from_the_call=False)
        finally:
            if load is not None:
                load.close()

    def close(self) -> None:
        self._listener.close()
        self._system.close()
