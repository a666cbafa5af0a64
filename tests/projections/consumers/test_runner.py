"""Durable consumers: catch up, go live, go on after the end, and never count twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from contracts.authors import Author
from contracts.feeds import body
from duramen.actors import AgentSystem
from duramen.events import (
    AskTimeout,
    Event,
    Fenced,
    Granularity,
    InvalidMessage,
    InvalidPath,
    Limits,
    MemoryLog,
    Receipt,
    SystemClosed,
)
from duramen.events.log import EventLog
from duramen.events.log.records import Span, SpanEvents
from duramen.events.model.cursor import Cursor
from duramen.events.model.registry import DECLARED
from duramen.projections import Episodes, KeyedProjection, Projection, Timeline, WorkingMemory, fold
from duramen.projections.consumers import runner as runner_module
from duramen.projections.consumers import view_builder as build_module
from duramen.projections.consumers.plan import plan_of
from duramen.projections.consumers.runner import Runner
from duramen.projections.notifications import EventFilter, NoticeSource
from duramen.projections.notifications import pacing as pacing_module
from duramen.projections.notifications.shared_listener import Inlet, ListenerPool
from following import Count, LastSeqs, OpenSystem, PerAgent, expected_seqs, seqs_of
from waiting import eventually

# -- catching up, going live -------------------------------------------------------------------------------------------


def test_what_was_there_before_and_what_comes_later_are_both_seen_once_in_order(open_any: OpenSystem) -> None:
    system = open_any()
    agents = [system.spawn(f"acme/agent-{number}") for number in range(5)]
    for number in range(40):
        agents[number % 5].set("n", number)
    runner = system.attach(LastSeqs(), "seqs")
    receipts = [agent.set("later", number) for number in range(20) for agent in agents]
    runner.wait_for(receipts)
    assert seqs_of(runner.state) == expected_seqs(system)
    assert (runner.applied, runner.lag, runner.error) == (145, 0, None)
    eventually(lambda: runner.status == "live")
    assert runner.progress.share == 1.0


def test_each_write_can_be_read_back_in_the_view(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    runner = system.attach(Count(), "count")
    for number in range(50):
        receipt = alice.set("n", number)
        runner.wait_for(receipt, timeout=10)
        assert runner.state >= receipt.seq


def test_attached_again_it_goes_on_where_it_was(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    with system.attach(LastSeqs(), "seqs") as runner:
        runner.wait_for(alice.set("a", 1))
    assert runner.status == "closed"
    alice.set("a", 2)
    again = Count()
    runner = system.attach(LastSeqs(), "seqs")
    runner.wait_for()
    assert seqs_of(runner.state) == {"acme/alice": [1, 2, 3]}
    assert runner.applied == 3
    counted = system.attach(again, "count")
    counted.wait_for()
    counted.close()
    system.attach(again, "count").wait_for()
    assert again.calls == 3, "what was stored was not applied again"


def test_another_process_takes_over_and_the_first_is_told(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs")
    first.wait_for(alice.set("a", 1), saved=True)
    second = two.attach(LastSeqs(), "seqs")
    second.wait_for(alice.set("a", 2))
    eventually(lambda: first.status == "fenced", what="fenced")
    assert isinstance(first.error, Fenced)
    with pytest.raises(Fenced):
        first.wait_for()
    with pytest.raises(Fenced):
        first.rebuild()
    second.wait_for(alice.set("a", 3))
    assert seqs_of(second.state) == {"acme/alice": [1, 2, 3, 4]}
    assert first.close()
    assert first.status == "fenced"


def test_two_consumers_do_not_disturb_each_other(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    one, two = system.attach(Count(), "one"), system.attach(Count(("acme/alice", 2)), "two")
    receipt = alice.set("a", 1)
    one.wait_for(receipt)
    eventually(lambda: two.status == "parked")
    one.wait_for(alice.set("a", 2))
    assert (one.state, two.state) == (3, 1)
    eventually(lambda: one.status == "live")


def test_a_name_can_be_attached_once_in_a_system(open_system: OpenSystem) -> None:
    system = open_system()
    runner = system.attach(Count(), "count")
    with pytest.raises(InvalidMessage, match="attached"):
        system.attach(Count(), "count")
    runner.close()
    system.attach(Count(), "count")


# -- keyed -------------------------------------------------------------------------------------------------------------


def test_a_keyed_view_has_an_entry_a_key_and_survives(open_any: OpenSystem) -> None:
    system = open_any()
    agents = [system.spawn(f"acme/agent-{number}") for number in range(30)]
    runner = system.attach(PerAgent(), "agents")
    for agent in agents:
        agent.set("a", 1)
    agents[0].terminate()
    runner.wait_for(saved=True)
    expected = {path: seqs for path, seqs in expected_seqs(system).items() if path != "acme/agent-0"}
    assert seqs_of(runner.state) == expected
    runner.close()
    again = open_any().attach(PerAgent(), "agents")
    again.wait_for()
    assert seqs_of(again.state) == expected
    assert again.state.copy() == expected
    assert ("acme/agent-0" in again.state, len(again.state)) == (False, 29)


def test_a_keyed_view_can_be_iterated_while_it_changes() -> None:
    from duramen.projections import KeyedView

    held = {"a": 1, "b": 2, "c": 3}
    view = KeyedView(held)
    keys = iter(view)
    assert next(keys) == "a"
    del held["b"]
    held["d"] = 4
    assert list(keys) == ["c"]


# -- what it takes -----------------------------------------------------------------------------------------------------


class Types(Projection[list[str]]):
    def initial(self) -> list[str]:
        return []

    def apply(self, state: list[str], event: Event) -> list[str]:
        return [*state, f"{event.agent} {event.type}"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"agents": "acme/*"}, ["acme/alice child_spawned", "acme/alice memory_set", "acme/alice spawned"]),
        (
            {"agents": "acme/**"},
            ["acme/alice child_spawned", "acme/alice memory_set", "acme/alice spawned", "acme/alice/x spawned"],
        ),
        ({"agents": "other/bob"}, ["other/bob memory_set", "other/bob spawned"]),
        ({"agents": "none/such"}, []),
        (
            {"granularity": Granularity.LIFECYCLE},
            ["acme/alice child_spawned", "acme/alice spawned", "acme/alice/x spawned", "other/bob spawned"],
        ),
        ({"categories": ["state"]}, ["acme/alice memory_set", "other/bob memory_set"]),
        ({"types": ["memory_set"], "agents": "other/**"}, ["other/bob memory_set"]),
    ],
)
def test_it_is_given_only_what_it_was_attached_for(
    open_any: OpenSystem, options: dict[str, Any], expected: list[str]
) -> None:
    system = open_any()
    for path in ("acme/alice", "acme/alice/x", "other/bob"):
        agent = system.spawn(path)
        if path != "acme/alice/x":
            agent.set("a", 1)
        agent.record("thought", {}, level=Granularity.TRACE)
    runner = system.attach(Types(), "types", **options)
    runner.wait_for()
    assert sorted(runner.state) == expected
    runner.wait_for(system.agent("acme/alice").record("tool", {}))
    assert runner.lag == 0


class Sets(Types):
    types = frozenset(("memory_set",))


def test_types_that_a_projection_names_are_all_that_it_gets(open_system: OpenSystem) -> None:
    system = open_system()
    system.spawn("acme/alice").set("a", 1)
    runner = system.attach(Sets(), "sets")
    runner.wait_for()
    assert runner.state == ["acme/alice memory_set"]


def test_what_it_passes_over_counts_as_done_with(open_any: OpenSystem) -> None:
    """Trimming goes by the stored cursor: it must move on although nothing is applied."""
    system = open_any()
    alice = system.spawn("acme/alice")
    runner = system.attach(Count(), "deaf", categories=["trace"])
    for number in range(10):
        alice.set("n", number)
    runner.wait_for(saved=True)
    (info,) = system.projections()
    assert (info.lag, info.position, info.applied) == (0, 11, 0)


def test_after_begins_behind_a_cursor(open_system: OpenSystem) -> None:
    system = open_system()
    alice = system.spawn("acme/alice")
    with system.attach(Count(), "all") as runner:
        runner.wait_for(alice.set("a", 1), saved=True)
    ((_, cursor),) = [(r.name, r.cursor) for r in system.log.consumer_store().records()]
    later = system.attach(Count(), "later", after=cursor)
    later.wait_for(alice.set("a", 2))
    assert later.state == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "a b"}, InvalidMessage),
        ({"name": 7}, InvalidMessage),
        ({"projection": Count}, InvalidMessage),
        ({"projection": object()}, InvalidMessage),
        ({"agents": "acme"}, InvalidPath),
        ({"categories": []}, InvalidMessage),
        ({"granularity": 9}, InvalidMessage),
        ({"types": "memory_set"}, InvalidMessage),
        ({"after": b"cursor"}, InvalidMessage),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(
    open_system: OpenSystem, arguments: dict[str, Any], error: type[Exception]
) -> None:
    system = open_system()
    with pytest.raises(error):
        system.attach(**{"projection": Count(), "name": "count", **arguments})
    assert system.projections() == []


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_waiting_ends_with_a_typed_time_out(open_any: OpenSystem, gate: threading.Event) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    held = Count(hold=gate, at=2)
    runner = system.attach(held, "count")
    receipt = alice.set("a", 1)
    with pytest.raises(AskTimeout):
        runner.wait_for(receipt, timeout=0.05)
    gate.set()
    runner.wait_for(receipt, timeout=10)


def test_a_receipt_of_nothing_and_one_of_another_agent_are_waited_for_too(open_system: OpenSystem) -> None:
    system = open_system()
    alice, bob = system.spawn("acme/alice", granularity=Granularity.STATE), system.spawn("other/bob")
    runner = system.attach(Count(), "alice", agents="acme/alice")
    nothing = alice.record("thought")
    assert nothing.first_seq == nothing.seq + 1
    runner.wait_for([nothing, bob.set("a", 1)], timeout=30)
    runner.wait_for([], timeout=30)
    assert runner.state == 1


def test_saved_is_in_the_store(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    runner = system.attach(LastSeqs(), "seqs")
    for number in range(5):
        runner.wait_for(alice.set("n", number), saved=True)
        (record,) = system.log.consumer_store().records()
        assert record.applied == number + 2


def test_waiting_for_something_else_than_receipts_is_refused(open_system: OpenSystem) -> None:
    system = open_system()
    runner = system.attach(Count(), "count")
    with pytest.raises(InvalidMessage):
        runner.wait_for(["receipt"])  # type: ignore[list-item]


def test_waiting_in_asyncio_blocks_nobody(open_any: OpenSystem, gate: threading.Event) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    runner = system.attach(Count(hold=gate, at=2), "count")

    async def main() -> None:
        receipt: Receipt = await alice.aio.set("a", 1)
        with pytest.raises(AskTimeout):
            await runner.aio.wait_for(receipt, timeout=0.05)
        waiting = [asyncio.create_task(runner.aio.wait_for(receipt)) for _ in range(100)]
        cancelled = asyncio.create_task(runner.aio.wait_for(receipt))
        await asyncio.sleep(0)
        cancelled.cancel()
        gate.set()
        await asyncio.gather(*waiting)
        assert runner.state == 2
        assert await runner.aio.close()

    asyncio.run(main())


def test_who_waits_is_told_when_it_is_closed(open_system: OpenSystem, gate: threading.Event) -> None:
    system = open_system()
    alice = system.spawn("acme/alice")
    held = Count(hold=gate, at=2)
    runner = system.attach(held, "count")
    receipt = alice.set("a", 1)
    assert held.reached.wait(10)
    told: list[BaseException] = []

    def wait() -> None:
        try:
            runner.wait_for(receipt)
        except SystemClosed as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: runner._waiters.any)
    runner.close(timeout=0.05)
    thread.join(10)
    assert len(told) == 1
    with pytest.raises(SystemClosed):
        runner.wait_for(receipt)


# -- ending ------------------------------------------------------------------------------------------------------------


def test_closing_stores_what_it_has_come_to(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    runner = system.attach(Count(), "count")
    runner.wait_for(alice.set("a", 1))
    assert runner.close()
    (info,) = system.projections()
    assert (info.status, info.lag, info.applied) == ("closed", 0, 2)


def test_the_system_closes_its_runners(open_any: OpenSystem) -> None:
    system = open_any()
    system.spawn("acme/alice")
    runner = system.attach(Count(), "count")
    runner.wait_for()
    system.close()
    assert runner.status == "closed"
    assert not [thread for thread in threading.enumerate() if "projection-count" in thread.name]
    with pytest.raises(SystemClosed):
        system.attach(Count(), "another")


def test_a_handler_that_hangs_holds_nobody_else_up_and_its_lag_is_seen(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    held = Count(hold=gate, at=2)
    hanging, other = system.attach(held, "hanging"), system.attach(Count(), "other")
    receipts = [alice.set("n", number) for number in range(5)]
    assert held.reached.wait(10)
    other.wait_for(receipts)
    assert other.state == 6
    assert hanging.lag >= 5
    assert not hanging.close(timeout=0.05)
    assert hanging.status == "closed"
    assert other.close()


def test_what_hung_stores_nothing_once_it_was_left_behind(open_system: OpenSystem, gate: threading.Event) -> None:
    system = open_system()
    alice = system.spawn("acme/alice")
    held = Count(hold=gate, at=2)
    runner = system.attach(held, "count")
    alice.set("a", 1)
    assert held.reached.wait(10)
    runner.close(timeout=0.05)
    before = system.log.consumer_store().records()
    gate.set()
    runner._thread.join(10)
    assert system.log.consumer_store().records() == before


# -- hints are only hints ----------------------------------------------------------------------------------------------


class Deaf:
    """Hears nothing, ever."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def receive(self, timeout: float | None) -> dict[int, int]:
        self._woken.wait(timeout)
        self._woken.clear()
        return {}

    def pause(self, seconds: float) -> None:
        self._woken.wait(seconds)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._woken.set()


class Liar(Deaf):
    """Says that everything has moved, much further than it has, and things that are not there."""

    def receive(self, timeout: float | None) -> dict[int, int]:
        super().receive(min(0.01, timeout or 0.01))
        return {0: 0, 1: 10**9, 5: -3, 77: 5}


def runner_of(log: EventLog, projection: Projection[Any], notices: NoticeSource) -> Runner[Any]:
    wanted = EventFilter.parse("**")
    plan = plan_of(log, DECLARED, Limits(), projection=projection, name="name", event_filter=wanted)
    return Runner[Any](plan, notices).start()


@pytest.mark.parametrize("source", [Deaf, Liar])
def test_the_last_event_is_found_whatever_is_heard(source: type[Deaf]) -> None:
    with AgentSystem.open(log=MemoryLog()) as system:
        alice = system.spawn("acme/alice")
        runner = runner_of(system.log, LastSeqs(), source())
        eventually(lambda: runner.status == "live")
        alice.set("the last", 1)
        eventually(lambda: seqs_of(runner.state) == {"acme/alice": [1, 2]}, timeout=30)
        eventually(lambda: system.projections()[0].applied == 2, timeout=30)
        assert runner.close()


class Watched:
    """An inlet that says whether its runner pauses."""

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self.receive, self.wake, self.close = inlet.receive, inlet.wake, inlet.close
        self.pausing = threading.Event()

    def pause(self, seconds: float) -> None:
        self.pausing.set()
        self._inlet.pause(seconds)
        self.pausing.clear()


def test_a_consumer_that_a_caller_waits_for_does_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live consumer takes what comes within a while in one round; here that while is longer than the test."""
    monkeypatch.setattr(runner_module, "_LONGEST_ROUND", 1_000.0)
    monkeypatch.setattr(pacing_module, "_SHARE", 1e12)
    log = MemoryLog()
    pool = ListenerPool(log)
    notices = Watched(pool.open(range(log.partitions), 4))
    with AgentSystem.open(log=log) as system:
        alice = system.spawn("acme/alice")
        runner = runner_of(log, Count(), notices)

        def until_it_pauses() -> None:
            for number in range(100):
                alice.set("a", number)
                if notices.pausing.wait(0.2):
                    return
            raise AssertionError("it never pauses")

        until_it_pauses()
        last = alice.set("b", 1)
        before = runner.applied
        runner.wait_for(last, timeout=10)
        assert before < last.seq == runner.applied
        until_it_pauses()
        assert runner.close()
    assert pool.close(10)


# -- projections of the library ----------------------------------------------------------------------------------------


def test_our_own_projections_can_be_attached_and_come_back_equal(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice", initial_state={"goal": "x"})
    alice.set("plan/steps", [1, {"a": None}])
    alice.record("tool_output", {"tool": "search"})
    alice.pause("lunch")
    alice.resume("lunch")
    alice.terminate(task_description="done")
    events = list(system.events("acme/alice"))
    ours: dict[str, Projection[Any]] = {"e": Episodes(), "t": Timeline(), "w": WorkingMemory()}
    for name, projection in ours.items():
        with system.attach(projection, name) as runner:
            runner.wait_for(saved=True)
        again = open_any().attach(projection, name)
        again.wait_for()
        assert projection.dump(again.state) == projection.dump(fold(projection, events))
        assert again.applied == len(events)


class PerTool(KeyedProjection[Mapping[str, int]]):
    types = frozenset(("activity_recorded",))

    def key(self, event: Event) -> str | None:
        tool: str | None = event.data["data"].get("tool")
        return tool

    def apply(self, entry: Mapping[str, int] | None, event: Event) -> Mapping[str, int] | None:
        calls = 0 if entry is None else entry["calls"]
        return {"calls": calls + 1}


def test_entries_are_folded_over_all_agents(open_system: OpenSystem) -> None:
    system = open_system()
    for name in ("alice", "bob"):
        agent = system.spawn(f"acme/{name}")
        agent.record("tool_output", {"tool": "search"})
        agent.record("thought", {})
    runner = system.attach(PerTool(), "tools")
    runner.wait_for()
    assert dict(runner.state) == {"search": {"calls": 2}}


def test_a_consumer_of_another_log_is_told(open_system: OpenSystem) -> None:
    system = open_system()
    system.spawn("acme/alice")
    runner = system.attach(Count(), "count", after=Cursor("another log"))
    eventually(lambda: runner.status == "parked")
    assert type(runner.error).__name__ == "DataLoss"


class Weighing(MemoryLog):
    """Counts the events that are fetched."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.fetched = 0

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        found = super().gather(partition, spans, most_bytes)
        self.fetched += sum(len(stretch.items) for stretch in found)
        return found


def test_who_is_slow_uses_what_was_fetched_before_anything_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "_TURN", 0.0)  # time is up behind each page
    log = Weighing()
    authors = [Author(log, f"acme/agent-{number}") for number in range(8)]
    for _ in range(500):
        for author in authors:
            author.write(body(1))
    with AgentSystem.open(log=log) as system, system.attach(LastSeqs(), "seqs") as runner:
        runner.wait_for()
        expected = {author.agent: list(range(1, 501)) for author in authors}
        assert {agent: seqs for agent, seqs in seqs_of(runner.state).items() if agent in expected} == expected
    assert 4_000 <= log.fetched < 6_000
