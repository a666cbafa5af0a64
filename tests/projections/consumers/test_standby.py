"""Consumers that stand by: one host runs the consumer, the others read what it stores, and one takes it over."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, cast
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem, Reaction
from duramen.events import AskTimeout, ConsumerParked, Event, Fenced, InvalidMessage, SystemClosed, Unavailable
from duramen.events.log import Stored
from duramen.projections import Projection, Runner
from duramen.projections.consumers import host_of
from following import Count, LastSeqs, OpenSystem, PerAgent, expected_seqs, parked, seqs_of
from takeover import bury_others
from waiting import eventually


class Doubled(LastSeqs):
    version: ClassVar[int] = 2


class Unloadable(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + 1

    def load(self, data: Any) -> int:
        raise LookupError("not here")


def stored(system: AgentSystem, name: str = "seqs") -> Stored:
    return system.log.consumer_store().find(name)


def token(system: AgentSystem, name: str = "seqs") -> str:
    found = stored(system, name).live
    return "" if found is None else found.token


def one_runs(runners: Sequence[Runner[Any]]) -> Runner[Any]:
    """Wait until one of them is live and all others stand by."""

    def is_so() -> bool:
        return Counter(runner.status for runner in runners) == {"live": 1, "standby": len(runners) - 1}

    eventually(is_so, what="one live, the others in standby")
    return next(runner for runner in runners if runner.status == "live")


# -- standing by -------------------------------------------------------------------------------------------------------


def test_one_that_stands_by_fences_nobody_and_reads_what_is_stored(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs", standby=True)
    first.wait_for(alice.set("a", 1), saved=True)
    before = token(one)
    second = two.attach(LastSeqs(), "seqs", standby=True)
    assert (second.status, seqs_of(second.state)) == ("standby", {"acme/alice": [1, 2]})
    receipt = alice.set("a", 2)
    second.wait_for(receipt)
    assert seqs_of(second.state) == {"acme/alice": [1, 2, 3]}
    assert (second.status, second.applied, second.lag, second.error) == ("standby", 3, 0, None)
    assert (second.progress.share, second.skipped) == (1.0, (0, ()))
    asyncio.run(second.aio.wait_for(alice.set("a", 3)))
    assert seqs_of(second.state) == expected_seqs(one)
    assert token(one) == before
    assert first.status == "live"


def test_without_standby_the_first_is_fenced_also_by_one_that_stood_by(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs")
    first.wait_for(alice.set("a", 1), saved=True)
    two.attach(LastSeqs(), "seqs", standby=True).close()
    first.wait_for(alice.set("a", 2))
    second = two.attach(LastSeqs(), "seqs")
    second.wait_for(alice.set("a", 3))
    eventually(lambda: first.status == "fenced")


def test_closing_one_that_stands_by_touches_nothing(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(Count(), "count")
    first.wait_for(alice.set("a", 1), saved=True)
    second = two.attach(Count(), "count", standby=True)
    eventually(lambda: first.status == "live" and stored(one, "count").live)
    before = token(one, "count")
    assert second.close()
    assert second.status == "closed"
    with pytest.raises(SystemClosed):
        second.wait_for()
    found = stored(one, "count").live
    assert found is not None
    assert (found.token, found.status == "closed") == (before, False)
    two.attach(Count(), "count", standby=True)
    two.close()
    first.wait_for(alice.set("a", 2), saved=True)
    assert token(one, "count") == before


def test_a_keyed_view_is_read_in_standby_with_what_has_gone(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    agents = [one.spawn(f"acme/{name}") for name in "ab"]
    first = one.attach(PerAgent(), "agents")
    first.wait_for(saved=True)
    second = two.attach(PerAgent(), "agents", standby=True)
    assert dict(second.state) == {"acme/a": [1], "acme/b": [1]}
    second.wait_for(agents[0].set("n", 1))
    agents[1].terminate()
    second.wait_for()
    assert dict(second.state) == {"acme/a": [1, 2]}
    assert second.status == "standby"


def test_its_lag_grows_and_its_wait_ends_while_the_other_hangs(open_system: OpenSystem, gate: threading.Event) -> None:
    one, two = open_system(), open_system()
    alice = one.spawn("acme/alice")
    held = Count(hold=gate, at=2)
    one.attach(held, "count").wait_for(saved=True)
    second = two.attach(Count(), "count", standby=True)
    receipt = alice.set("a", 1)
    assert held.reached.wait(60)
    assert (second.lag, second.state) == (1, 1)
    with pytest.raises(AskTimeout, match="count"):
        second.wait_for(receipt, timeout=0.1)
    gate.set()
    second.wait_for(receipt)
    assert (second.lag, second.state) == (0, 2)


def test_where_the_other_is_parked_the_wait_and_the_error_say_so(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(Count(("acme/alice", 2)), "count")
    receipt = alice.set("a", 1)
    parked(first)
    second = two.attach(Count(), "count", standby=True)
    with pytest.raises(ConsumerParked) as caught:
        second.wait_for(receipt)
    assert (caught.value.agent, caught.value.seq, caught.value.actual) == ("acme/alice", 2, "ZeroDivisionError")
    assert isinstance(second.error, ConsumerParked)
    assert two.consumers.lags() == {}, "of what runs here"
    assert second.status == "standby"
    for call, what in ((second.retry, "retry"), (second.skip, "skip"), (second.rebuild, "rebuild")):
        with pytest.raises(InvalidMessage, match=rf"system\.consumers\.{what}\('count'\)"):
            call()
    first.skip()
    first.wait_for(receipt, saved=True)
    second.wait_for(receipt)
    assert (second.state, second.skipped) == (1, (1, (("acme/alice", 2),)))


def test_a_view_of_another_version_is_not_read_but_rebuilt_at_the_takeover(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs")
    first.wait_for(saved=True)
    second = two.attach(Doubled(), "seqs", standby=True)
    with pytest.raises(Unavailable, match="another version"):
        assert second.state
    with pytest.raises(Unavailable, match="another version"):
        second.wait_for()
    assert second.status == "standby"
    first.wait_for(alice.set("a", 1))
    first.close()
    alice.set("a", 2)
    eventually(lambda: second.status == "live")
    assert seqs_of(second.state) == expected_seqs(one)
    assert [info.version for info in two.projections()] == [2]


def test_a_stored_view_that_its_code_refuses_to_load_raises_to_who_reads_it(open_system: OpenSystem) -> None:
    one, two = open_system(), open_system()
    one.spawn("acme/alice")
    first = one.attach(Count(), "count")
    first.wait_for(saved=True)
    second = two.attach(Unloadable(), "count", standby=True)
    for _ in range(2):
        with pytest.raises(LookupError):
            assert second.state
    assert second.status == "standby"
    first.wait_for()


def test_a_reactor_that_could_not_be_taken_over_is_refused_at_once(open_system: OpenSystem) -> None:
    one, two = open_system(), open_system()

    def ignore(event: Event, reaction: Reaction) -> None:
        pass

    one.react("watch", ignore, pattern="acme/**")
    with pytest.raises(InvalidMessage, match="watch"):
        two.react("watch", ignore, pattern="other/**", standby=True)
    with two.react("watch", ignore, pattern="acme/**", standby=True) as second:
        assert second.status == "standby"


def test_standby_is_a_bool(open_system: OpenSystem) -> None:
    with pytest.raises(InvalidMessage, match="standby"):
        open_system().attach(Count(), "count", standby=cast("Any", 1))


# -- taking over -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_system", [False, True], ids=["runner", "system"])
def test_when_it_is_closed_one_of_those_that_stand_by_goes_on_where_it_was(
    open_any: OpenSystem, whole_system: bool
) -> None:
    one, two, three = open_any(), open_any(), open_any()
    alice = two.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs", standby=True)
    counts = [Count(), Count()]
    counted = one.attach(Count(), "count")
    others = [system.attach(LastSeqs(), "seqs", standby=True) for system in (two, three)]
    counters = [system.attach(count, "count", standby=True) for system, count in zip((two, three), counts, strict=True)]
    for runner in (first, counted):
        runner.wait_for(alice.set("a", 1), saved=True)
    assert [runner.status for runner in others] == ["standby"] * 2
    if whole_system:
        one.close()
    else:
        first.close()
        counted.close()
    receipt = alice.set("a", 2)
    waiting: list[Runner[Any]] = [*others, *counters]
    for each in waiting:
        each.wait_for(receipt)
    winner = one_runs(others)
    assert seqs_of(winner.state) == {"acme/alice": [1, 2, 3, 4]}
    for runner in others:
        runner.wait_for(alice.set("a", 3))
        assert seqs_of(runner.state) == expected_seqs(two)
    for counter in counters:
        counter.wait_for()
    assert one_runs(counters).state == 6
    assert max(count.calls for count in counts) == 3, "of six events three were stored, and were not applied again"


def test_the_view_is_never_empty_while_it_is_taken_over(open_system: OpenSystem, gate: threading.Event) -> None:
    loading = threading.Event()

    class Slow(LastSeqs):
        def load(self, data: Any) -> Mapping[str, list[int]]:
            if threading.current_thread().name.startswith("duramen-projection"):
                loading.set()
                gate.wait(60)
            return LastSeqs.load(self, data)

    one, two = open_system(), open_system()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs")
    first.wait_for(alice.set("a", 1), saved=True)
    second = two.attach(Slow(), "seqs", standby=True)
    first.close()
    assert loading.wait(60)
    assert (second.status, seqs_of(second.state)) == ("standby", {"acme/alice": [1, 2]})
    found = stored(one).live
    assert found is not None
    assert (host_of(found), found.status) == (two.consumers.host(), "catching_up"), "nobody else takes it meanwhile"
    gate.set()
    eventually(lambda: second.status == "live")


def test_a_host_that_was_buried_alive_loses_it_and_stands_by_again(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = two.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs", standby=True)
    second = two.attach(LastSeqs(), "seqs", standby=True)
    first.wait_for(alice.set("a", 1), saved=True)
    bury_others(two)
    alice.set("a", 2)
    eventually(lambda: second.status == "live")
    receipt = alice.set("a", 3)
    for runner in (first, second):
        runner.wait_for(receipt, saved=True)
        assert seqs_of(runner.state) == expected_seqs(two)
    assert (first.status, second.status) == ("standby", "live")
    second.close()
    first.wait_for(alice.set("a", 3))
    eventually(lambda: first.status == "live")
    assert seqs_of(first.state) == expected_seqs(two)


def test_one_from_whom_it_was_taken_stands_by_and_not_for_ever_fenced(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs", standby=True)
    first.wait_for(alice.set("a", 1))
    with two.attach(LastSeqs(), "seqs") as second:
        receipt = alice.set("a", 2)
        second.wait_for(receipt)
        eventually(lambda: first.status == "standby")
        first.wait_for(receipt)
        assert seqs_of(first.state) == {"acme/alice": [1, 2, 3]}
    first.wait_for(alice.set("a", 3))
    eventually(lambda: first.status == "live")
    assert seqs_of(first.state) == expected_seqs(one)


@pytest.mark.slow
def test_of_many_that_attach_at_once_one_runs_and_none_is_fenced(open_any: OpenSystem) -> None:
    systems = [open_any() for _ in range(4)]
    alice = systems[0].spawn("acme/alice")
    together = threading.Barrier(len(systems))

    def attach(system: AgentSystem) -> Runner[Any]:
        together.wait(60)
        return system.attach(LastSeqs(), "seqs", standby=True)

    with ThreadPoolExecutor(len(systems)) as pool:
        runners = list(pool.map(attach, systems))
    for number in range(3):
        receipt = alice.set("n", number)
        for runner in runners:
            runner.wait_for(receipt)
    one_runs(runners)
    for runner in runners:
        runner.wait_for()
        assert seqs_of(runner.state) == expected_seqs(systems[0])


def test_one_whose_record_names_no_host_is_nobodys(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs")
    first.wait_for(saved=True)
    second = two.attach(LastSeqs(), "seqs", standby=True)
    record = stored(one).live
    assert record is not None
    assert one.log.consumer_store().claim(record, uuid4().hex) is not None
    second.wait_for(alice.set("a", 1))
    eventually(lambda: second.status == "live")
    assert seqs_of(second.state) == expected_seqs(one)


def test_one_that_was_removed_is_taken_over_by_nobody(open_any: OpenSystem) -> None:
    one, two = open_any(), open_any()
    alice = one.spawn("acme/alice")
    first = one.attach(LastSeqs(), "seqs", standby=True)
    first.wait_for(saved=True)
    second = two.attach(LastSeqs(), "seqs", standby=True)
    one.consumers.remove("seqs")
    receipt = alice.set("a", 1)
    for runner in (first, second):
        with pytest.raises(Fenced, match="removed"):
            runner.wait_for(receipt, saved=True)
        assert runner.status == "fenced"
    assert one.projections() == []
    again = two.attach(LastSeqs(), "seqs", standby=True)
    again.wait_for()
    assert seqs_of(again.state) == expected_seqs(one)


def test_the_async_calls_stand_by_too(open_system: OpenSystem) -> None:
    one, two = open_system(), open_system()
    alice = one.spawn("acme/alice")
    seen: list[tuple[str, int]] = []

    def note(event: Event, reaction: Reaction) -> None:
        seen.append((event.agent, event.seq))

    async def stand_by() -> list[Runner[Any]]:
        return [
            await two.aio.attach(Count(), "count", standby=True),
            await two.aio.react("watch", note, standby=True),
        ]

    first = one.attach(Count(), "count")
    reacting = one.react("watch", note)
    count, watch = asyncio.run(stand_by())
    assert [count.status, watch.status] == ["standby"] * 2
    watch.wait_for(alice.set("a", 1))
    assert seen == [("acme/alice", 2)]
    first.close()
    reacting.close()
    receipt = alice.set("a", 2)
    watch.wait_for(receipt)
    count.wait_for(receipt)
    assert seen == [("acme/alice", 2), ("acme/alice", 3)]
    assert count.state == 3
