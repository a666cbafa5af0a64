"""The benchmark measures what it says: every row is there, and the work was verified. No figure is judged here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from benchmarks import comparison
from benchmarks.figures import Sample, Series, Spread, Verdict, ratio_of
from benchmarks.main import GROUPS, main, measure
from benchmarks.options import TINY, Options
from benchmarks.report import summary, write
from benchmarks.rounds import Wrong, alternate
from benchmarks.tables import Group

ROWS = {
    "throughput": [
        "redis-py: pipelined RPUSH + PUBLISH, no AOF",
        "duramen: 4 agents, 8 in flight, no AOF",
        "duramen: 10 agents, one in flight each, no AOF",
        "duramen: 10 agents, collected rarely, no AOF",
        "redis-py: pipelined RPUSH + PUBLISH, AOF always",
        "duramen: 4 agents, 8 in flight, AOF always",
        "duramen: 2 processes, 4 agents each",
    ],
    "latency": [
        "redis-py: awaited RPUSH, no AOF",
        "duramen: one caller awaiting each, no AOF",
        "redis-py: awaited RPUSH, AOF always",
        "duramen: one caller awaiting each, AOF always",
    ],
    "reads": [
        "redis-py: awaited HGET, no new event",
        "duramen: a read, no new event",
        "redis-py: awaited HGET, 1 new event",
        "duramen: a read, 1 new event",
        "redis-py: awaited HGET, 10 new events",
        "duramen: a read, 10 new events",
        "duramen: writer beside 1,000 PINGs a second",
        "duramen: writer beside 1,000 reads a second",
    ],
    "links": [
        "redis-py: awaited PUBLISH there and back",
        "duramen: a row over links there and back",
        "duramen: awaited set, in the owner",
        "duramen: awaited set, from another process",
        "duramen: awaited set, in the owner, AOF always",
        "duramen: awaited set, from another process, AOF always",
        "duramen: awaited set, in the owner, 64 callers",
        "duramen: awaited set, from another process, 64 callers",
    ],
    "hosts": [
        "duramen: one host, mutations",
        "duramen: 2 hosts, mutations",
        "duramen: one host, handlers that compute for 1 ms",
        "duramen: 2 hosts, handlers that compute for 1 ms",
    ],
    "takeover": ["an agent of a killed process, asked in another", "the same program, started again"],
    "streams": ["redis-py: awaited XADD", "duramen: live output", "duramen: live output, 20 readers"],
    # Those that answer single calls stand in a second table, too.
    "peers": [
        "LangGraph, Redis saver",
        "LangGraph, Redis saver",
        "LangGraph, SQLite saver",
        "LangGraph, SQLite saver",
        "Pykka ThreadingActor with a dict",
        "activegraph, SQLite",
        "activegraph, SQLite",
        "duramen, AOF always",
        "duramen, AOF always, awaited",
        "duramen, AOF always, awaited",
        "duramen, no AOF",
        "eventsourcing, SQLite",
        "eventsourcing, SQLite",
    ],
    "recovery": [
        "redis-py: LRANGE + msgpack.unpackb",
        "duramen: recovery, full replay",
        "duramen: recovery, snapshot 100 events back",
        "duramen: system.events()",
    ],
    "agents": [
        "duramen: spawns, AOF always",
        "duramen: spawns, no AOF",
        "eventsourcing, SQLite: saves new aggregates",
        "duramen: live, idle",
    ],
    "growth": [
        "duramen: append among 100 live agents",
        "duramen: append among 120 live agents",
        "duramen: append to a log of 1,000 events",
        "duramen: append to a log of 1,100 events",
    ],
    "blocked": ["a mutation of another agent", "a message to another agent with a handler of its own"],
    "work": [
        "duramen: one caller awaiting each set",
        "duramen: one handler, step after step",
        "duramen: the same, of functions in threads",
        "duramen: sets of 4 agents",
        "duramen: steps of 4 handlers at once",
        "duramen: 5 steps of each handler, AOF always",
        "DBOS, SQLite",
        "LangGraph tasks, SQLite saver",
        "duramen: 10 unfinished handlers going again",
    ],
    "notices": [
        "redis-py: PUBLISH to message, at rest",
        "duramen: commit to callback, at rest",
        "redis-py: PUBLISH to message, under 200 events/s",
        "duramen: commit to callback, under 200 events/s",
    ],
    "adapters": [
        "duramen: one caller",
        "LangGraph: SqliteSaver",
        "duramen: 4 threads at once",
        "LangGraph: AsyncSqliteSaver",
        "duramen: a thread of 200 messages",
    ],
    "following": [
        "duramen: writer, no subscriber",
        "duramen: writer, a subscriber sleeps",
        "duramen: writer, 1 pattern subscription",
        "duramen: writer, 50 pattern subscriptions",
    ],
    "catching-up": ["redis-py: LRANGE in pages + msgpack.unpackb", "duramen: a new consumer catches up"],
    "history": [
        "duramen: walking a log of 1,000 events",
        "duramen: walking a log of 1,100 events",
        "duramen: a jump and a step in a log of 1,000 events",
        "duramen: a jump and a step in a log of 1,100 events",
        "redis-py: LRANGE of 1,000 events + msgpack.unpackb",
        "duramen: 1,000 events read",
        "duramen: state_at a random seq",
        "duramen: blame at a random seq",
        "duramen: fork of a log of 1,000 events",
        "duramen: fork of a log of 1,100 events",
        "redis-py: LRANGE in pages + msgpack.unpackb",
        "duramen: a stored log folded again and compared",
        "duramen: the same, on all processors",
    ],
}


def measured(name: str, folder: Path, **changed: Any) -> Group:
    sizes = {field.name: getattr(TINY, field.name) for field in fields(Options)}
    (group,) = measure(Options(**{**sizes, "only": (name,), **changed}), folder)
    return group


@pytest.mark.slow
@pytest.mark.timeout(400)  # some groups start a dozen processes, beside the other workers of the tests
@pytest.mark.parametrize("name", sorted(GROUPS))
def test_a_group_has_all_its_rows_and_its_work_is_verified(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = measured(name, tmp_path, processes=2 if name == "throughput" else 1)
    shown = [row[1] for table in group.tables for row in table.rows]
    if name in ("peers", "work"):  # peers that are not installed come last
        assert sorted(shown) == sorted(ROWS[name])
    else:
        assert shown == ROWS[name]
    printed = capsys.readouterr().out
    assert all(row in printed for row in ROWS[name])
    # A peer that is not installed has a row that says so, and a target not measured; of ours nothing may be missing.
    assert not [row for table in group.tables for row in table.rows if row[0] != "peer" and "not measured" in row[-1]]
    assert len(group.verdicts) + len(group.unmeasured) >= (4 if name == "peers" else 1)
    assert all(target.what in summary([group]) for target in group.unmeasured)


@pytest.mark.slow
def test_targets_against_peers_that_are_not_installed_are_listed_as_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "installed", lambda name: name == "pykka")
    group = measured("peers", tmp_path / "data")
    assert (len(group.verdicts), len(group.unmeasured)) == (0, 4)
    groups = [measured("latency", tmp_path / "data"), group]
    write(tmp_path, groups, ["a machine"], "scripts/bench")
    for shown in (summary(groups), (tmp_path / "docs/performance.md").read_text()):
        assert f"of {len(groups[0].verdicts) + 4} targets met, 4 not measured" in shown
        for target in group.unmeasured:
            assert any(target.what in line and "not measured" in line for line in shown.splitlines())


@pytest.mark.slow
def test_the_page_and_its_pictures_show_every_target_and_row(tmp_path: Path) -> None:
    groups = [measured(name, tmp_path / "data") for name in ("throughput", "latency")]
    written = write(tmp_path, groups, ["a machine"], "scripts/bench")
    page = (tmp_path / "docs/performance.md").read_text()
    for group in groups:
        assert all(verdict.what in page for verdict in group.verdicts)
        assert all(row[1] in page for table in group.tables for row in table.rows)
        assert all(verdict.what in summary(groups) for verdict in group.verdicts)
    pictures = [path for path in written if path.suffix == ".svg"]
    assert len(pictures) == 2
    for picture in pictures:
        assert f"pictures/{picture.name}" in page
        assert "prefers-color-scheme: dark" in (tmp_path / picture).read_text()


@pytest.mark.slow
def test_a_part_is_printed_and_written_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[1] / "docs/performance.md"
    before = page.read_bytes() if page.exists() else None
    assert main(["--quick", "--only", "latency", "--durability", "memory", "--agents", "3", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "one caller awaiting each, no AOF" in printed
    assert "AOF always" not in printed
    assert "nothing written" in printed
    assert (page.read_bytes() if page.exists() else None) == before


class Liar:
    """A contender that says it did more than it did."""

    kind = "peer"
    name = "liar"
    note = ""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def prepare(self) -> None:
        self.calls.append("prepare")

    def run(self) -> Sample:
        self.calls.append("run")
        return Sample(1, 1.0, 1.0)

    def verify(self) -> None:
        raise Wrong("nothing was stored")

    def close(self) -> None:
        self.calls.append("close")


def test_a_contender_whose_work_is_not_there_has_no_figures() -> None:
    liar: Any = Liar()
    with pytest.raises(Wrong, match="nothing was stored"):
        alternate([liar], 2)
    assert liar.calls == ["prepare", "run", "run", "run", "close"]


def test_contenders_take_turns_and_the_warm_up_is_not_counted() -> None:
    order: list[str] = []

    class Turn(Liar):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def run(self) -> Sample:
            order.append(self.name)
            return Sample(len(order), 1.0, 1.0)

        def verify(self) -> None: ...

    contenders: list[Any] = [Turn("a"), Turn("b")]
    series = alternate(contenders, 2)
    assert order == ["a", "b"] * 3
    assert [[sample.operations for sample in row.samples] for row in series] == [[3, 5], [4, 6]]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The second round was slow for both: of the medians of each alone, nothing of that would be left.
    quick = Series("ours", "quick", tuple(Sample(1, wall, 1.0) for wall in (1.0, 10.0, 2.0)))
    slow = Series("floor", "slow", tuple(Sample(1, wall, 1.0) for wall in (2.0, 30.0, 2.0)))
    assert ratio_of(slow, quick, lambda sample: sample.wall) == Spread(2.0, 1.0, 3.0)


def test_a_target_is_met_by_its_median_in_its_own_direction() -> None:
    assert Verdict("", Spread(1.2, 0.1, 9.0), at_least=1.2).met
    assert not Verdict("", Spread(1.19, 0.1, 9.0), at_least=1.2).met
    assert Verdict("", Spread(2.5, 0.1, 9.0), at_most=2.5, aim=1.5).met
    assert not Verdict("", Spread(2.5, 0.1, 9.0), at_most=2.5, aim=1.5).aim_met
    assert Verdict("", Spread(2.5, 2.0, 5.0), at_most=2.5).margin == Spread(1.0, 0.5, 1.25)
