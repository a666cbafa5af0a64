"""A view is built anew beside the one that is read, and takes its place in one write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from duramen.actors import AgentHandle, AgentSystem
from duramen.events import Cursor, Event, InvalidMessage, Limits, Trimmed
from duramen.events.log.consumer_store import LIVE, NEXT
from duramen.events.log.event_log import EventLog
from duramen.events.model.registry import DECLARED
from duramen.projections import KeyedProjection, Projection
from duramen.projections.consumers import view_builder as build
from duramen.projections.consumers.consumer import REBUILD, Consumer
from duramen.projections.consumers.plan import LIVE_STATUS, REBUILDING, plan_of
from duramen.projections.notifications import EventFilter
from following import Count, LastSeqs, OpenSystem, expected_seqs, parked, seqs_of
from sinks import SqliteSeen
from waiting import eventually


class Sum(Projection[int]):
    """The first version counts events, the second doubles."""

    def __init__(self, hold: threading.Event | None = None) -> None:
        self.hold = hold
        self.reached = threading.Event()

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        if self.hold is not None and state:
            self.reached.set()
            self.hold.wait(60)
        return state + 1


class SumTwo(Sum):
    version = 2

    def apply(self, state: int, event: Event) -> int:
        return super().apply(state, event) + 1


@pytest.fixture
def page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of a consumer takes one page, so that a test can look in between."""
    monkeypatch.setattr(build, "_TURN", 0.0)


def token_of(system: AgentSystem, name: str) -> str:
    live = system.log.consumer_store().find(name).live
    return "" if live is None else live.token


def test_another_version_is_built_while_the_old_process_goes_on_and_then_takes_its_place(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    old, new = open_any(), open_any()
    alice = old.spawn("acme/alice")
    first = old.attach(Sum(), "sum")
    first.wait_for(alice.set("a", 1), saved=True)
    held = SumTwo(gate)
    second = new.attach(held, "sum")
    assert held.reached.wait(10)
    assert second.status == "rebuilding"
    first.wait_for(alice.set("a", 2), saved=True)
    assert first.state == 3
    eventually(lambda: first.status == "live")
    (info,) = new.projections()
    assert (info.version, info.applied, info.building and info.building.version) == (1, 3, 2)
    gate.set()
    eventually(lambda: second.status == "live")
    second.wait_for()
    assert second.state == 6
    eventually(lambda: first.status == "fenced")
    (info,) = new.projections()
    assert (info.version, info.building) == (2, None)


def test_another_scope_builds_anew_too(open_any: OpenSystem) -> None:
    system = open_any()
    for name in ("acme/alice", "other/bob"):
        system.spawn(name)
    with system.attach(Sum(), "sum") as runner:
        runner.wait_for()
        assert runner.state == 2
    runner = system.attach(Sum(), "sum", agents="acme/**")
    eventually(lambda: runner.status == "live")
    assert runner.state == 1
    assert [info.scope for info in system.projections()] == ["acme/** 1234 *"]


def test_a_view_that_was_rebuilt_by_hand_equals_the_fold(open_any: OpenSystem) -> None:
    system = open_any()
    agents = [system.spawn(f"acme/agent-{number}") for number in range(5)]
    runner = system.attach(LastSeqs(), "seqs")
    runner.wait_for(saved=True)
    runner.rebuild()
    for number in range(30):
        agents[number % 5].set("n", number)
    eventually(lambda: token_of(system, "seqs").startswith("2:"))
    runner.wait_for(saved=True)
    assert seqs_of(runner.state) == expected_seqs(system)
    eventually(lambda: runner.status == "live")
    (info,) = system.projections()
    assert (info.applied, info.building) == (35, None)


def test_an_operator_asks_for_a_rebuild_from_elsewhere(open_any: OpenSystem) -> None:
    system = open_any()
    system.spawn("acme/alice")
    runner = system.attach(LastSeqs(), "seqs")
    runner.wait_for(saved=True)
    open_any().consumers.rebuild("seqs")
    eventually(lambda: token_of(system, "seqs").startswith("2:"))
    eventually(lambda: runner.status == "live")
    assert system.log.consumer_store().find("seqs").request is None


def test_a_rebuild_with_corrected_code_frees_a_parked_consumer(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    projection = Count(("acme/alice", 2))
    runner = system.attach(projection, "count")
    alice.set("a", 1)
    parked(runner)
    projection.poison.clear()
    runner.rebuild()
    eventually(lambda: runner.status == "live")
    runner.wait_for()
    assert runner.state == 2


def test_a_rebuild_that_parks_leaves_the_old_view_and_can_be_begun_again(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    projection = Count()
    runner = system.attach(projection, "count")
    runner.wait_for(alice.set("a", 1), saved=True)
    projection.poison.add(("acme/alice", 2))
    runner.rebuild()
    parked(runner)
    assert runner.state == 2
    projection.poison.clear()
    runner.rebuild()
    eventually(lambda: runner.status == "live")
    runner.wait_for(alice.set("a", 2))
    assert runner.state == 3


def test_a_skip_belongs_to_the_view_and_is_not_taken_over_by_a_rebuild(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    projection = Count(("acme/alice", 2))
    runner = system.attach(projection, "count")
    alice.set("a", 1)
    parked(runner)
    runner.skip()
    eventually(lambda: runner.status == "live")
    assert (runner.state, runner.skipped[0]) == (1, 1)
    projection.poison.clear()
    runner.rebuild()
    eventually(lambda: runner.state == 2)
    assert runner.skipped == (0, ())


# -- of a log that was trimmed -----------------------------------------------------------------------------------------


def trimmed(system: AgentSystem) -> AgentHandle:
    """An agent whose first events are gone, in the feed of an older one whose are not."""
    others = (f"acme/agent-{number}" for number in range(1_000))
    system.spawn(next(path for path in others if system.log.partition_of(path) == system.log.partition_of("acme/a")))
    agent = filled(system, 30, "acme/a")
    for number in range(20):
        agent.set("n", number)
    system.attach(Count(), "trimmer").wait_for(saved=True)
    return agent


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_rebuild_of_a_trimmed_log_is_refused_and_the_view_goes_on(open_any: OpenSystem, elsewhere: bool) -> None:
    system = open_any()
    agent = trimmed(system)
    runner = system.attach(LastSeqs(), "seqs")
    runner.wait_for(saved=True)
    assert system.trim("acme/a", keep_events=5).base > 5
    if elsewhere:
        open_any().consumers.rebuild("seqs")
        eventually(lambda: system.log.consumer_store().find("seqs").request is None)
    else:
        with pytest.raises(Trimmed) as caught:
            runner.rebuild()
        assert caught.value.agent == "acme/a"
    runner.wait_for(agent.set("n", 1), saved=True)
    eventually(lambda: runner.status == "live")
    assert runner.error is None
    assert seqs_of(runner.state)["acme/a"] == list(range(1, agent.status().seq + 1))
    assert [info.building for info in system.projections()] == [None, None]


def test_a_rebuild_that_finds_its_log_trimmed_is_given_up_and_holds_no_trimming(open_any: OpenSystem) -> None:
    """As of a version that began it before the log was trimmed by force, or of a process that was killed."""
    system = open_any()
    agent = trimmed(system)
    with system.attach(LastSeqs(), "seqs") as runner:
        runner.wait_for(saved=True)
    assert system.trim("acme/a", keep_events=5).base > 5
    store = system.log.consumer_store()
    (stored,) = [record for record in store.records() if record.name == "seqs"]
    assert store.claim(evolve(stored, slot=NEXT, cursor=Cursor(system.log.identity)), "killed") is not None
    for number in range(20):
        agent.set("n", number)
    assert system.trim("acme/a", keep_events=5).held_by is not None, "control"
    runner = system.attach(LastSeqs(), "seqs")
    eventually(lambda: store.find("seqs").next is None)
    runner.wait_for(saved=True)
    eventually(lambda: runner.status == "live")
    assert runner.error is None
    system.consumers.remove("trimmer")  # it would hold what it has not stored yet
    assert system.trim("acme/a", keep_events=5).held_by is None


@pytest.mark.parametrize("how", ["rebuild", "elsewhere", "version"])
def test_tables_that_could_not_be_filled_again_are_not_emptied(open_any: OpenSystem, tmp_path: Path, how: str) -> None:
    system = open_any()
    agent = trimmed(system)
    sink = SqliteSeen(str(tmp_path / "seen.db"))
    runner = system.attach(sink, "seen")
    runner.wait_for(saved=True)
    assert system.trim("acme/a", keep_events=5).base > 5
    before = sink.rows()
    if how == "rebuild":
        with pytest.raises(Trimmed):
            runner.rebuild()
    elif how == "elsewhere":
        open_any().consumers.rebuild("seen")
        eventually(lambda: system.log.consumer_store().find("seen").request is None)
    else:
        runner.close()

        class Two(SqliteSeen):
            version = 2

        with pytest.raises(Trimmed):
            system.attach(Two(str(tmp_path / "seen.db")), "seen")
        runner = system.attach(sink, "seen")
    assert sink.rows() == before
    last = agent.set("n", 1)
    runner.wait_for(last)
    assert sink.rows()["acme/a"] == list(range(1, last.seq + 1))


# -- step by step ------------------------------------------------------------------------------------------------------


EVERYWHERE = dict.fromkeys(range(16), 0)


def consumer_of(log: EventLog, projection: Projection[Any] | KeyedProjection[Any]) -> Consumer:
    """As a runner has it, without a thread."""
    consumer = Consumer(
        plan_of(log, DECLARED, Limits(), projection=projection, name="seqs", event_filter=EventFilter.parse("**"))
    )
    consumer.open()
    return consumer


def until(consumer: Consumer, reached: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if reached():
            return
        consumer.turn(EVERYWHERE, urgent=True)
    raise AssertionError("a thousand turns were not enough")


@pytest.fixture
def one_system(open_any: OpenSystem) -> AgentSystem:
    return open_any()


def filled(system: AgentSystem, events: int, path: str = "acme/alice") -> AgentHandle:
    """An agent with so many events, written in batches."""
    agent = system.spawn(path)
    for start in range(0, events - 1, 200):
        with agent.batch() as batch:
            for number in range(start, min(start + 200, events - 1)):
                batch.set("n", number)
    return agent


@pytest.mark.usefixtures("page_by_page")
def test_the_view_that_is_read_stays_up_to_date_while_another_is_built(one_system: AgentSystem) -> None:
    log = one_system.log
    alice = filled(one_system, 3_000)
    consumer = consumer_of(log, LastSeqs())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    consumer.request(REBUILD)
    consumer.turn({}, urgent=False)
    assert consumer.status == REBUILDING
    alice.set("more", 1)
    consumer.turn(EVERYWHERE, urgent=False)
    assert len(consumer.current.view["acme/alice"]) == 3_001
    assert 0 < sum(consumer.building.positions.values()) < sum(log.positions())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    assert list(consumer.current.view["acme/alice"]) == list(range(1, 3_002))
    assert log.consumer_store().blob("seqs", NEXT) is None


@pytest.mark.usefixtures("page_by_page")
def test_a_reader_of_the_store_sees_the_old_view_or_the_new_one_whole(one_system: AgentSystem) -> None:
    log = one_system.log
    filled(one_system, 2_000)
    consumer = consumer_of(log, LastSeqs())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    consumer.finish()
    old = log.consumer_store().blob("seqs", LIVE)
    consumer.request(REBUILD)
    consumer.turn({}, urgent=False)
    while consumer.status == REBUILDING:
        assert log.consumer_store().blob("seqs", LIVE) == old
        consumer.turn({}, urgent=True)
    assert log.consumer_store().blob("seqs", LIVE) == old  # the same events: the same view


@pytest.mark.parametrize("finish", [False, True], ids=["killed", "closed"])
@pytest.mark.usefixtures("page_by_page")
def test_a_rebuild_that_was_cut_off_is_carried_on(one_system: AgentSystem, finish: bool) -> None:
    log = one_system.log
    filled(one_system, 3_000)
    consumer = consumer_of(log, LastSeqs())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    consumer.request(REBUILD)
    consumer.turn({}, urgent=True)
    assert consumer.status == REBUILDING
    if finish:
        consumer.finish()
    stored = log.consumer_store().find("seqs").next
    assert stored is not None
    again = consumer_of(log, LastSeqs())
    assert again.status == REBUILDING
    until(again, lambda: again.status == LIVE_STATUS)
    assert list(again.current.view["acme/alice"]) == list(range(1, 3_001))
    assert again.current.applied == 3_000
    assert log.consumer_store().find("seqs").next is None


@pytest.mark.usefixtures("page_by_page")
def test_a_view_that_was_begun_by_other_code_is_begun_anew(one_system: AgentSystem) -> None:
    log = one_system.log
    filled(one_system, 2_000)
    consumer = consumer_of(log, Sum())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    two = consumer_of(log, SumTwo())
    two.turn({}, urgent=True)
    two.finish()

    class SumThree(SumTwo):
        version = 3

    three = consumer_of(log, SumThree())
    until(three, lambda: three.status == LIVE_STATUS)
    assert three.current.view == 4_000
    assert [record.version for record in log.consumer_store().records()] == [3]


def test_a_consumer_of_many_pages_and_partitions_equals_the_fold(open_any: OpenSystem) -> None:
    system = open_any()
    for number in range(30):
        filled(system, 90, f"project-{number}/agent")
    consumer = consumer_of(system.log, LastSeqs())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    assert seqs_of(consumer.current.view) == expected_seqs(system)


# -- what is stored is damaged -----------------------------------------------------------------------------------------


def test_a_stored_view_that_is_damaged_is_not_used_and_can_be_rebuilt(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    with system.attach(LastSeqs(), "seqs") as runner:
        runner.wait_for(alice.set("a", 1), saved=True)
    views = system.log.consumer_store()
    ((record,), blob) = views.records(), views.blob("seqs", LIVE)
    assert blob is not None
    assert views.save(record, blob=blob[:-1] + b"\x00").current
    again = open_any().attach(LastSeqs(), "seqs")
    parked(again)
    assert type(again.error).__name__ == "CorruptEvent"
    with pytest.raises(InvalidMessage):
        again.skip()
    again.rebuild()
    eventually(lambda: again.status == "live")
    assert seqs_of(again.state) == {"acme/alice": [1, 2]}


@pytest.mark.usefixtures("page_by_page")
def test_a_rebuild_ends_while_agents_are_erased_and_another_one_follows_without_them(one_system: AgentSystem) -> None:
    log = one_system.log
    filled(one_system, 1_000)
    filled(one_system, 3_000, "acme/bob")
    consumer = consumer_of(log, LastSeqs())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    consumer.request(REBUILD)
    consumer.turn({}, urgent=False)
    consumer.turn(EVERYWHERE, urgent=False)
    begun = consumer.building
    assert consumer.status == REBUILDING
    assert "acme/alice" in begun.view
    one_system.erase("acme/alice")
    while consumer.building is begun:
        one_system.spawn("acme/carol")
        one_system.erase("acme/carol")
        consumer._beat_at = 0.0
        consumer.turn(EVERYWHERE, urgent=False)
    assert consumer.current is begun, "it became live, and was not replaced"
    assert consumer.status == REBUILDING, "another one was begun in the same turn"
    until(consumer, lambda: consumer.status == LIVE_STATUS and log.consumer_store().find("seqs").request is None)
    assert list(consumer.current.view) == ["acme/bob"]


@pytest.mark.usefixtures("page_by_page")
def test_whoever_goes_on_with_a_rebuild_builds_the_view_again_without_what_was_erased(one_system: AgentSystem) -> None:
    log = one_system.log
    filled(one_system, 1_000)
    filled(one_system, 3_000, "acme/bob")
    consumer = consumer_of(log, LastSeqs())
    until(consumer, lambda: consumer.status == LIVE_STATUS)
    consumer.request(REBUILD)
    consumer.turn({}, urgent=False)
    consumer.turn(EVERYWHERE, urgent=False)
    assert consumer.status == REBUILDING
    assert "acme/alice" in consumer.building.view
    one_system.erase("acme/alice")
    consumer._beat_at = 0.0
    consumer.turn(EVERYWHERE, urgent=False)
    consumer.finish()
    assert consumer.status == REBUILDING
    after = consumer_of(log, LastSeqs())
    after.turn(EVERYWHERE, urgent=False)
    assert after.status == REBUILDING
    assert "acme/alice" in after.building.view, "it goes on with what was stored"
    until(after, lambda: after.status == LIVE_STATUS and log.consumer_store().find("seqs").request is None)
    assert list(after.current.view) == ["acme/bob"]
