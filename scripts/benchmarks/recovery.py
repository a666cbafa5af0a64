"""Bringing an agent back from its log: all of it, or from a snapshot; and reading a long log in pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from attrs import define, field

from duramen.actors import AgentSystem
from duramen.actors.handlers.services import Settings

from .children import ask_child
from .figures import Kind, Sample, Series, Spread, Verdict, ratio_of, spread_of
from .floors import RangeAndUnpack
from .memory import Watch, resident
from .options import Options
from .ours import change, spawn_many
from .rounds import Wrong, alternate, timed
from .servers import Server
from .tables import Group, Table, number, rate_table
from .throughput import cpu_ratio, rate
from .work import GOAL, Work, agent_name

__all__ = ["fill", "measure"]

_AGENT: Final = agent_name(0)
_BACK: Final = 100
"""Events after the snapshot."""
_NEVER: Final = 10**9
_SHORT: Final = 2_000
"""Events after which a reader has everything it needs in memory once."""


def measure(options: Options, folder: Path) -> Group:
    with Server(folder) as server:
        whole = _filled(server, "whole", options, snapshot_every=_NEVER)
        recent = _filled(server, "recent", options, snapshot_every=options.recovered - _BACK)
        floor = RangeAndUnpack(server=server, key=whole.key, events=options.recovered)
        series = alternate([floor, whole, recent], options.rounds * 2)
        read, grown = _long_log(server, options)
    return _group(options, series, read, grown)


def fill(server: Server, namespace: str, events: int, payload: int, *, snapshot_every: int = 1_000) -> tuple[str, Work]:
    """Give one agent a log of so many events; its key, and the work that is in it.

    An agent takes a snapshot when a turn ends so many events after the last one: the event that must end a turn is
    therefore sent alone.
    """
    work = Work(1, payload)
    settings = Settings(snapshot_every=snapshot_every)
    with AgentSystem.open(server.url, namespace=namespace, settings=settings) as system:
        spawn_many(system, [_AGENT])
        handles = [system.agent(_AGENT)]
        before = min(snapshot_every, events) - 2  # the spawn is an event too
        for count in (before, 1, events - before - 2):
            change(handles, work.steps(max(0, count)), 4_000)
        return system.log.log_key(_AGENT), work


def _filled(server: Server, namespace: str, options: Options, *, snapshot_every: int) -> _Recovery:
    key, work = fill(server, namespace, options.recovered, options.payload, snapshot_every=snapshot_every)
    return _Recovery(
        server=server, namespace=namespace, key=key, work=work, events=options.recovered, snapshot_every=snapshot_every
    )


@define(kw_only=True)
class _Recovery:
    """A process that does not know the agent asks it something: claim, read, check the chain, fold, answer."""

    server: Server
    namespace: str
    key: str
    work: Work
    events: int
    snapshot_every: int
    kind: Kind = "ours"
    _got: dict[str, Any] = field(factory=dict[str, Any])

    @property
    def name(self) -> str:
        if self.snapshot_every == _NEVER:
            return "duramen: recovery, full replay"
        return f"duramen: recovery, snapshot {_BACK} events back"

    @property
    def note(self) -> str:
        return "claim, chain of digests checked, folded; until the first reply"

    def prepare(self) -> None: ...

    def run(self) -> Sample:
        # A snapshot that this recovery would write must not help the next one.
        settings = Settings(snapshot_every=_NEVER)
        with AgentSystem.open(self.server.url, namespace=self.namespace, settings=settings) as system:
            return timed(lambda: self._recover(system), self.server)

    def _recover(self, system: AgentSystem) -> int:
        self._got = system.agent(_AGENT).get()
        return self.events

    def verify(self) -> None:
        if self._got != {"goal": GOAL, **self.work.expected[0]}:
            raise Wrong(f"{self.name}: another state came back")

    def close(self) -> None: ...


def _long_log(server: Server, options: Options) -> tuple[Sample, dict[str, float]]:
    """Read a long log in a fresh process, and watch its memory."""
    fill(server, "long", options.long_log, options.payload)
    found = ask_child(_read_long_log, server.url, options.long_log)
    return Sample(options.long_log, found["wall"], found["cpu"]), found


def _read_long_log(url: str, events: int) -> dict[str, float]:
    with AgentSystem.open(url, namespace="long") as system, Watch() as watch:
        before = 0
        seen = 0

        def read() -> int:
            nonlocal before, seen
            for event in system.events(_AGENT):
                seen += 1
                if seen == min(_SHORT, events):
                    before = resident()
                if seen % _SHORT == 0:
                    watch.look()
                if event.seq != seen:
                    raise Wrong(f"event {event.seq} came in place of {seen}")
            return seen

        sample = timed(read)
        if seen != events:
            raise Wrong(f"{seen} events were read, the log has {events}")
        return {"wall": sample.wall, "cpu": sample.cpu, "grown": float(max(0, watch.most - before))}


def _group(options: Options, series: list[Series], read: Sample, grown: dict[str, float]) -> Group:
    floor, whole, recent = series
    verdicts = [
        Verdict(
            f"recovery of an agent with {options.recovered:,} events: events/s against LRANGE + unpackb",
            ratio_of(whole, floor, rate),
            at_least=0.5,
            remark=cpu_ratio(whole, floor),
            short=f"recovery of {options.recovered:,} events",
        ),
        Verdict(
            f"from a snapshot {_BACK} events back: time against the full replay",
            ratio_of(recent, whole, lambda sample: sample.wall),
            at_most=0.1,
            remark=f"{number(ratio_of(recent, whole, lambda sample: sample.cpu).middle)}×",
            short="recovery from a snapshot",
        ),
    ]
    pages = Table(
        "A long log, read in pages by a process of its own",
        ("group", "who", "events", "events/s", "memory grown by", "how"),
        (
            (
                "ours",
                "duramen: system.events()",
                number(options.long_log),
                number(read.operations / read.wall),
                f"{number(grown['grown'] / 1024)} KiB",
                f"resident memory, from event {min(_SHORT, options.long_log):,} to the end",
            ),
        ),
    )
    verdicts.append(
        Verdict(
            f"a log of {options.long_log:,} events read in pages, memory bounded: it grows by",
            _only(grown["grown"] / 2**20),
            at_most=16.0,
            unit="MiB",
            short=f"memory, reading {options.long_log:,} events",
        )
    )
    return Group(
        "recovery",
        "Recovery",
        "Each time a new system is opened on the server, which has never heard of the agent, and asks it for its "
        "memory. The state that comes back is compared.",
        (rate_table("Recovery, events a second", series, [("floor", floor)], "events/s"), pages),
        tuple(verdicts),
        tuple(series),
    )


def _only(value: float) -> Spread:
    return spread_of([value])
