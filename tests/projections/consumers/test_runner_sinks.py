"""Views in a database of the user's own: each event in it once, in order, whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from duramen.actors import AgentSystem
from duramen.events import ConsumerParked, Event, Fenced, InvalidMessage, Unavailable
from duramen.events.model.cursor import Cursor
from duramen.projections import Sink
from following import OpenSystem, expected_seqs, parked
from postgres import postgres_server
from sinks import PageResult, sink_of
from waiting import eventually

MakeSink = Callable[[], PageResult]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def make_sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeSink]:
    """Sinks on the same, at first empty tables; each stands for a process."""
    place = str(tmp_path / "view.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made: list[PageResult] = []

    def make() -> PageResult:
        made.append(sink_of(place))
        return made[-1]

    make().reset("seen")
    yield make
    for sink in made:
        sink.close()


def prepared(system: AgentSystem) -> None:
    for name in ("acme/alice", "other/bob"):
        agent = system.spawn(name)
        for number in range(4):
            agent.set("n", number)


def test_each_event_is_a_row_once_in_order(open_system: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_system(), make_sink()
    prepared(system)
    runner = system.attach(sink, "seen")
    runner.wait_for(system.agent("acme/alice").set("n", 9))
    assert sink.rows() == expected_seqs(system)
    assert runner.state is sink
    assert sink.writes < 11, "events are written by the page"


def test_applied_is_written_before_it_is_saved_here(open_system: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_system(), make_sink()
    alice = system.spawn("acme/alice")
    runner = system.attach(sink, "seen")
    for number in range(20):
        receipt = alice.set("n", number)
        runner.wait_for(receipt)
        assert sink.rows()["acme/alice"][-1] == receipt.seq


def test_the_cursor_in_our_store_is_never_ahead_of_the_tables(open_any: OpenSystem, make_sink: MakeSink) -> None:
    """Trimming goes by it."""
    system, sink = open_any(), make_sink()
    alice = system.spawn("acme/alice")
    runner = system.attach(sink, "seen")
    for number in range(5):
        runner.wait_for(alice.set("n", number), saved=True)
    ((_, known),) = [(r.name, r.cursor) for r in system.log.consumer_store().records()]
    assert Cursor.from_bytes(sink.cursor("seen") or b"") == known
    assert known.marks[system.log.partition_of("acme/alice")].seq == 6


def test_attached_again_it_goes_on_behind_the_last_row(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system = open_any()
    prepared(system)
    with system.attach(make_sink(), "seen") as runner:
        runner.wait_for()
    system.agent("acme/alice").set("n", 9)
    sink = make_sink()
    runner = open_any().attach(sink, "seen")
    runner.wait_for()
    assert sink.rows() == expected_seqs(system)


def test_the_tables_decide_and_not_our_store(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system = open_any()
    prepared(system)
    with system.attach(make_sink(), "seen") as runner:
        runner.wait_for()
    system.consumers.remove("seen")
    sink = make_sink()
    with system.attach(sink, "seen") as runner:
        runner.wait_for()
    assert sink.rows() == expected_seqs(system), "our store forgot, the tables did not"
    sink.reset("seen")
    runner = system.attach(sink, "seen")
    runner.wait_for()
    assert sink.rows() == expected_seqs(system), "the tables forgot, our store did not"


def test_an_event_that_cannot_be_written_is_found_in_its_page(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_any(), make_sink()
    prepared(system)

    def refuse(events: Sequence[Event]) -> None:
        if any((event.agent, event.seq) == ("acme/alice", 3) for event in events):
            raise ZeroDivisionError("the payload was 42")

    sink.before_commit = refuse
    runner = system.attach(sink, "seen")
    parked(runner)
    assert sink.rows()["acme/alice"] == [1, 2]
    error = runner.error
    assert isinstance(error, ConsumerParked)
    assert (error.agent, error.seq) == ("acme/alice", 3)
    runner.skip()
    eventually(lambda: runner.status == "live")
    runner.wait_for()
    assert sink.rows() == {"acme/alice": [1, 2, 4, 5], "other/bob": [1, 2, 3, 4, 5]}


def test_retry_writes_it_when_the_reason_is_gone(open_system: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_system(), make_sink()
    prepared(system)

    def refuse(events: Sequence[Event]) -> None:
        if any(event.seq == 3 for event in events):
            raise ValueError

    sink.before_commit = refuse
    runner = system.attach(sink, "seen")
    parked(runner)
    sink.before_commit = lambda events: None
    runner.retry()
    eventually(lambda: runner.status == "live")
    runner.wait_for()
    assert sink.rows() == expected_seqs(system)


def test_a_commit_whose_answer_was_lost_is_a_commit(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_any(), make_sink()
    prepared(system)
    lost: list[int] = []

    def lose(events: Sequence[Event]) -> None:
        lost.append(len(events))
        raise ConnectionError("the answer was lost")

    sink.after_commit = lose
    runner = system.attach(sink, "seen")
    runner.wait_for()
    assert sink.rows() == expected_seqs(system)
    assert lost
    assert runner.error is None


def test_a_database_that_is_away_is_waited_for(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_any(), make_sink()
    prepared(system)
    runner = system.attach(sink, "seen")
    runner.wait_for()
    sink.reachable = False
    receipt = system.agent("acme/alice").set("n", 9)
    eventually(lambda: isinstance(runner.error, Unavailable))
    assert runner.status != "parked"
    assert runner.lag == 1
    sink.reachable = True
    runner.wait_for(receipt)
    assert sink.rows() == expected_seqs(system)
    eventually(lambda: runner.error is None)


def test_of_two_that_write_the_same_tables_one_is_fenced(open_any: OpenSystem, make_sink: MakeSink) -> None:
    one, two = open_any(), open_any()
    prepared(one)
    first = one.attach(make_sink(), "seen")
    first.wait_for()
    sink = make_sink()
    second = two.attach(sink, "seen")
    for number in range(10):
        receipt = one.agent("acme/alice").set("n", number)
    second.wait_for(receipt)
    eventually(lambda: first.status == "fenced")
    assert isinstance(first.error, Fenced)
    assert sink.rows() == expected_seqs(one)


def test_two_logs_cannot_be_written_into_the_same_tables(make_sink: MakeSink) -> None:
    with AgentSystem.open("memory://") as one, AgentSystem.open("memory://") as two:
        sink = make_sink()
        prepared(one)
        one.attach(sink, "seen").wait_for()
        before = sink.rows()
        prepared(two)
        runner = two.attach(make_sink(), "seen")
        parked(runner)
        assert type(runner.error).__name__ == "DataLoss"
        assert sink.rows() == before


def test_rebuild_empties_the_tables_and_fills_them_again(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_any(), make_sink()
    prepared(system)
    runner = system.attach(sink, "seen")
    runner.wait_for()
    before = sink.query("SELECT max(number) FROM seen")[0][0]
    runner.rebuild()
    eventually(lambda: (sink.query("SELECT min(number) FROM seen")[0][0] or 0) > before)
    runner.wait_for()
    assert sink.rows() == expected_seqs(system)


def test_a_new_version_fills_the_tables_again(open_any: OpenSystem, make_sink: MakeSink) -> None:
    system, sink = open_any(), make_sink()
    prepared(system)
    with system.attach(sink, "seen") as runner:
        runner.wait_for()
    before = sink.query("SELECT max(number) FROM seen")[0][0]
    newer = make_sink()
    type(newer).version += 1
    try:
        runner = system.attach(newer, "seen")
        runner.wait_for()
    finally:
        type(newer).version -= 1
    assert newer.query("SELECT min(number) FROM seen")[0][0] > before
    assert newer.rows() == expected_seqs(system)


class Bare(Sink):
    """Keeps nothing, and cannot be emptied."""

    def __init__(self) -> None:
        self.stored: bytes | None = None

    def cursor(self, name: str) -> bytes | None:
        return self.stored

    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        self.stored = cursor


def test_a_sink_that_cannot_be_emptied_says_so_and_goes_on(open_system: OpenSystem) -> None:
    system = open_system()
    alice = system.spawn("acme/alice")
    runner = system.attach(Bare(), "bare")
    runner.wait_for()
    with pytest.raises(InvalidMessage, match="emptied"):
        runner.rebuild()
    runner.wait_for(alice.set("a", 1))
    system.consumers.rebuild("bare")
    runner.wait_for(alice.set("a", 2))
    eventually(lambda: system.log.consumer_store().find("bare").request is None)
    assert runner.status == "live"


def test_a_sink_that_gives_nonsense_as_its_cursor_is_parked(open_system: OpenSystem) -> None:
    system = open_system()
    system.spawn("acme/alice")
    bare = Bare()
    bare.stored = b"nonsense"
    runner = system.attach(bare, "bare")
    parked(runner)
    assert type(runner.error).__name__ == "CorruptEvent"
    assert bare.stored == b"nonsense"


def test_control_a_sink_of_two_transactions_writes_twice(open_system: OpenSystem, make_sink: MakeSink) -> None:
    """Rows first, the cursor after them, and a failure in between."""
    system, sink = open_system(), make_sink()
    prepared(system)
    whole_write = sink.write
    failures = [1]

    def careless(name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        if failures and events:
            failures.pop()
            # The rows are there, the cursor is not.
            whole_write(name, events, after=after, cursor=after or Cursor(system.log.identity).to_bytes())
            raise ConnectionError
        whole_write(name, events, after=sink.cursor(name), cursor=cursor)

    sink.write = careless  # type: ignore[method-assign]
    runner = system.attach(sink, "seen")
    eventually(lambda: len(sink.rows().get("other/bob", [])) >= 5 and len(sink.rows().get("acme/alice", [])) >= 5)
    assert sink.rows() != expected_seqs(system)
    runner.close()
