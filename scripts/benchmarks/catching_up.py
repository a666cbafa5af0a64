"""A new consumer that catches up with everything there is, beside reading and decoding it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Final

import redis
from attrs import define

import msgpack
from duramen.actors import AgentSystem
from duramen.events import Event
from duramen.events.codec.event_codec import DIGEST_SIZE
from duramen.projections import Projection

from .children import ask_child
from .figures import Kind, Sample, Series, Verdict, ratio_of, spread_of
from .memory import Watch, resident
from .options import Options
from .ours import change, spawn_many
from .rounds import Wrong, alternate, timed
from .servers import Server
from .tables import Group, rate_table
from .throughput import cpu_ratio, rate
from .work import Work, agent_name

__all__ = ["measure"]

_PAGE: Final = 500
_MOST_GROWN: Final = 64.0
_AT_ONCE: Final = 50_000


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        ask_child(_fill, server.url, options.caught_agents, options.caught_up, options.payload)
        floor = _Child(server=server, options=options, kind="floor", name="redis-py: LRANGE in pages + msgpack.unpackb")
        ours = _Child(server=server, options=options, kind="ours", name="duramen: a new consumer catches up")
        series = alternate([floor, ours], options.rounds, warm_up=False)
    return _group(options, series, ours.grown)


def _group(options: Options, series: list[Series], grown: float) -> Group:
    floor, ours = series
    what = f"a new consumer over {options.caught_up:,} events of {options.caught_agents:,} agents"
    verdicts = (
        Verdict(
            f"{what}: events/s against reading and decoding them",
            ratio_of(ours, floor, rate),
            at_least=0.5,
            remark=cpu_ratio(ours, floor),
            short=f"catching up, {options.caught_up:,} events",
        ),
        Verdict(
            f"{what}, memory bounded: after a tenth of them it grows by",
            spread_of([grown]),
            at_most=_MOST_GROWN,
            unit="MiB",
            short="memory, catching up",
        ),
    )
    return Group(
        "catching-up",
        "Catching up",
        "The events of all agents are mixed, as they were written. The consumer counts them by type, after it has "
        "checked the chain of digests of each agent, and stores its view.",
        (rate_table("Events a second", series, [("floor", floor)], "events/s"),),
        verdicts,
        tuple(series),
    )


class _Counter(Projection[dict[str, int]]):
    """Events by type: as little work as a view can be."""

    def initial(self) -> dict[str, int]:
        return {}

    def apply(self, state: dict[str, int], event: Event) -> dict[str, int]:
        return {**state, event.type: state.get(event.type, 0) + 1}


def _fill(url: str, agents: int, events: int, payload: int) -> dict[str, float]:
    work = Work(agents, payload)
    with AgentSystem.open(url, namespace="behind") as system:
        names = [agent_name(number) for number in range(agents)]
        spawn_many(system, names)
        handles = [system.agent(name) for name in names]
        left = events - agents
        while left > 0:
            count = min(left, _AT_ONCE)
            change(handles, work.steps(count), 4_000)
            left -= count
    return {}


def _read_all(url: str, agents: int, events: int) -> dict[str, float]:
    client = redis.Redis(unix_socket_path=url.removeprefix("unix://"))
    with AgentSystem.open(url, namespace="behind") as system:
        keys = [system.log.log_key(agent_name(number)) for number in range(agents)]

    def read() -> int:
        count = 0
        for key in keys:
            start = 0
            while True:
                items: Any = client.lrange(key, start, start + _PAGE - 1)
                count += len([msgpack.unpackb(item[DIGEST_SIZE:]) for item in items])
                if len(items) < _PAGE:
                    break
                start += _PAGE
        return count

    sample = timed(read)
    return {"events": sample.operations, "wall": sample.wall, "cpu": sample.cpu, "grown": 0.0}


def _catch_up(url: str, agents: int, events: int) -> dict[str, float]:
    rest = threading.Event()
    with AgentSystem.open(url, namespace="behind") as system, Watch() as watch:
        runner_name = f"counted-{time.monotonic_ns()}"
        before = 0

        def catch_up() -> int:
            nonlocal before
            runner = system.attach(_Counter(), runner_name)
            while runner.applied < events:
                if not before and runner.applied > events // 10:
                    before = resident()
                watch.look()
                rest.wait(0.01)
                if runner.error is not None:
                    raise Wrong(f"the consumer stopped: {runner.error}")
            return sum(runner.state.values())

        sample = timed(catch_up)
        grown = max(0, watch.most - before) / 2**20
    return {"events": sample.operations, "wall": sample.wall, "cpu": sample.cpu, "grown": grown}


@define(kw_only=True)
class _Child:
    """Reads everything in a fresh process."""

    server: Server
    options: Options
    kind: Kind
    name: str
    note: str = "in a process of its own"
    grown: float = 0.0

    def prepare(self) -> None: ...

    def run(self) -> Sample:
        work = _read_all if self.kind == "floor" else _catch_up
        before = self.server.cpu_seconds()
        found = ask_child(work, self.server.url, self.options.caught_agents, self.options.caught_up)
        if found["events"] != self.options.caught_up:
            raise Wrong(f"{self.name}: {found['events']} events, not {self.options.caught_up}")
        self.grown = max(self.grown, found["grown"])
        server = self.server.cpu_seconds() - before
        return Sample(self.options.caught_up, found["wall"], found["cpu"], server)

    def verify(self) -> None: ...

    def close(self) -> None: ...
