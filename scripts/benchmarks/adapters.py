"""duramen's adapters beside what the frameworks bring themselves, at the same durability."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .comparison import installed, why_absent
from .figures import NotMeasured, Series, Spread, Unmeasured, Verdict, ratio_of
from .options import Options
from .rounds import Contender, alternate
from .servers import Server
from .tables import Group, Table, number, rate_table
from .throughput import cpu_ratio, rate

__all__ = ["measure"]

_STEPS: Final = 20
_MESSAGES: Final = 200
_SLOWER_AT_MOST: Final = 1.5
_FASTER_AT_LEAST: Final = 2.0
_REDIS_FASTER: Final = 5.0
_BYTES_AT_MOST: Final = 3_000.0
_SQLITE: Final = "langgraph-checkpoint-sqlite"


def measure(options: Options, folder: Path) -> Group:
    from .peers.langgraph_conversations import AsyncSqlite, Ours, OursAtOnce, Sqlite, bytes_of_a_step

    threads, steps = options.agents, min(_STEPS, options.events)
    share, steps_at_once = max(1, threads // options.rounds), max(2, steps // options.rounds)
    sizes, sizes_at_once = (share, steps, options.payload), (threads, steps_at_once, options.payload)
    with (
        Server(folder, durable=True) as server,
        tempfile.TemporaryDirectory(dir=folder, prefix="savers-") as store,
    ):
        ours, at_once = Ours(server, *sizes), OursAtOnce(server, *sizes_at_once)
        ours.name, at_once.name = "duramen: one caller", f"duramen: {threads} threads at once"
        theirs: list[Contender] = []
        if installed(_SQLITE):
            sqlite, sqlite_at_once = Sqlite(Path(store), *sizes), AsyncSqlite(Path(store), *sizes_at_once)
            sqlite.name, sqlite_at_once.name = _NAMES[0], _NAMES[1]
            theirs = [sqlite, sqlite_at_once]
        one = alternate([ours, *theirs[:1]], options.rounds, warm_up=False)
        many = alternate([at_once, *theirs[1:]], options.rounds, warm_up=False)
    stored = bytes_of_a_step(_MESSAGES if threads > 10 else 20, options.payload)
    verdicts, unmeasured = _targets(one, many, Spread(stored, stored, stored))
    missing = [NotMeasured("peer", name, why_absent([_SQLITE])) for name in _NAMES]
    return Group(
        "adapters",
        "LangGraph",
        f"A graph that adds a message of {options.payload} bytes a step, in `sync` mode: {share} threads of {steps} "
        f"steps a round by one caller, {threads} threads of {steps_at_once} steps at once on one event loop. "
        "LangGraph's own work is part of every step. Afterwards all messages are read back.",
        (
            _table("One caller, steps a second", one, missing[0]),
            _table("All threads at once, steps a second", many, missing[1]),
            Table(
                "Stored of a step",
                ("group", "who", "bytes"),
                (("ours", f"duramen: a thread of {_MESSAGES} messages", number(stored)),),
            ),
        ),
        tuple(verdicts),
        (*one, *many),
        tuple(unmeasured),
    )


_NAMES: Final = ("LangGraph: SqliteSaver", "LangGraph: AsyncSqliteSaver")


def _table(title: str, series: Sequence[Series], missing: NotMeasured) -> Table:
    rows: list[Series | NotMeasured] = [*series] if len(series) > 1 else [*series, missing]
    return rate_table(title, rows, [("duramen is", series[0])], "steps/s", turned=True)


def _targets(one: Sequence[Series], many: Sequence[Series], stored: Spread) -> tuple[list[Verdict], list[Unmeasured]]:
    slower, faster = "LangGraph, one caller: time of a step against SqliteSaver's", "against AsyncSqliteSaver, at once"
    redis = "against AsyncRedisSaver, at once"
    verdicts = [
        Verdict(
            f"LangGraph: bytes that a step stores in a thread of {_MESSAGES} messages",
            stored,
            at_most=_BYTES_AT_MOST,
            unit="bytes",
            short="bytes a step",
        )
    ]
    unmeasured = [Unmeasured(redis, _REDIS_FASTER, "its server needs RediSearch and RedisJSON")]
    if len(one) < 2:
        absent = why_absent([_SQLITE])
        return verdicts, [Unmeasured(faster, _FASTER_AT_LEAST, absent), *unmeasured]
    time = ratio_of(one[0], one[1], lambda sample: sample.wall / sample.operations)
    cpu = ratio_of(one[0], one[1], lambda sample: sample.cpu / sample.operations)
    verdicts += [
        Verdict(slower, time, at_most=_SLOWER_AT_MOST, remark=f"{number(cpu.middle)}×", short="against SqliteSaver"),
        Verdict(
            f"LangGraph: {faster}",
            ratio_of(many[0], many[1], rate),
            at_least=_FASTER_AT_LEAST,
            remark=cpu_ratio(many[0], many[1]),
            short=faster,
        ),
    ]
    return verdicts, unmeasured
