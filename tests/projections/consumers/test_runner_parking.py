"""What a consumer does when it cannot go on: it stands still before that event, says so, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem
from duramen.events import (
    ConsumerParked,
    DuramenError,
    Event,
    EventRegistry,
    InvalidMessage,
    Limits,
    TooLarge,
    UnknownEventType,
    ValueRefused,
    event_type,
)
from duramen.projections import ConsumerInfo, KeyedProjection, Projection, Runner
from following import Count, LastSeqs, OpenSystem, PerAgent, expected_seqs, parked, seqs_of
from waiting import eventually

BAD = ("acme/alice", 3)


class Poisoned(LastSeqs):
    def __init__(self, *poison: tuple[str, int]) -> None:
        self.poison = set(poison)
        self.refused = 0

    def apply(self, state: Mapping[str, list[int]], event: Event) -> Mapping[str, list[int]]:
        if (event.agent, event.seq) in self.poison:
            self.refused += 1
            raise ZeroDivisionError("the payload was 42")
        return super().apply(state, event)


def prepared(system: AgentSystem) -> None:
    """Five events of alice, five of bob, who is in another partition."""
    for name in ("acme/alice", "other/bob"):
        agent = system.spawn(name)
        for number in range(4):
            agent.set("n", number)
    assert system.log.partition_of("acme/alice") != system.log.partition_of("other/bob")


def is_live(runner: Runner[Any]) -> bool:
    return runner.status == "live"


def stored_parked(system: AgentSystem) -> ConsumerInfo:
    """What is stored of the only consumer, when it says that it is parked."""
    eventually(lambda: system.projections()[0].status == "parked")
    return system.projections()[0]


def test_a_handler_that_raises_parks_its_consumer_before_that_event(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(Poisoned(BAD), "seqs")
    parked(runner)
    assert runner.state["acme/alice"] == [1, 2]
    error = runner.error
    assert isinstance(error, ConsumerParked)
    assert (error.agent, error.seq, error.actual) == ("acme/alice", 3, "ZeroDivisionError")
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "payload" not in str(error)


def test_others_see_why_it_is_parked_and_no_payload_is_stored(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    parked(system.attach(Poisoned(BAD), "seqs"))
    info = stored_parked(open_any())
    assert info.error is not None
    assert (info.error.error, info.error.agent, info.error.seq) == ("ZeroDivisionError", "acme/alice", 3)
    assert "test_runner_parking.py" in (info.error.place or "")
    assert "payload" not in str(info)
    assert info.lag > 0


def test_who_waits_is_told_the_reason_in_place_of_waiting_for_ever(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(Poisoned(BAD), "seqs")
    for _ in range(2):
        with pytest.raises(ConsumerParked):
            runner.wait_for(timeout=30)


def test_retry_goes_on_at_that_event_when_the_reason_is_gone(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    projection = Poisoned(BAD)
    runner = system.attach(projection, "seqs")
    parked(runner)
    projection.poison.clear()
    runner.retry()
    eventually(lambda: runner.status != "parked")
    runner.wait_for()
    assert seqs_of(runner.state) == expected_seqs(system)
    eventually(lambda: system.projections()[0].error is None)


def test_retry_parks_again_while_the_reason_stays(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    projection = Poisoned(BAD)
    runner = system.attach(projection, "seqs")
    parked(runner)
    before = projection.refused
    runner.retry()
    eventually(lambda: projection.refused > before)
    parked(runner)
    assert runner.state["acme/alice"] == [1, 2]


def test_skip_leaves_out_exactly_one_event_and_says_which(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(Poisoned(BAD, ("acme/alice", 4)), "seqs")
    parked(runner)
    runner.skip()
    eventually(lambda: runner.error is not None and runner.error.seq == 4)
    runner.skip()
    eventually(lambda: runner.status == "live")
    runner.wait_for(saved=True)
    assert seqs_of(runner.state) == {"acme/alice": [1, 2, 5], "other/bob": [1, 2, 3, 4, 5]}
    assert runner.skipped == (2, (BAD, ("acme/alice", 4)))
    runner.close()
    (info,) = system.projections()
    assert (info.skipped, info.skips) == (2, (BAD, ("acme/alice", 4)))
    again = open_any().attach(LastSeqs(), "seqs")
    again.wait_for()
    assert again.state["acme/alice"] == [1, 2, 5], "a skip is for good"


def test_a_restart_shows_that_it_is_parked_and_goes_on_with_corrected_code(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(Poisoned(BAD), "seqs")
    parked(runner)
    runner.close()
    (info,) = system.projections()
    assert (info.status, info.error is None) == ("parked", False)
    with system.attach(Poisoned(BAD), "seqs") as still:
        parked(still)
        assert still.state["acme/alice"] == [1, 2]
    corrected = system.attach(LastSeqs(), "seqs")
    corrected.wait_for()
    assert seqs_of(corrected.state) == expected_seqs(system)


class Careless(Projection[dict[str, int]]):
    """Changes the state it was given, and then raises: what no projection may do, and many will."""

    def __init__(self) -> None:
        self.broken = True

    def initial(self) -> dict[str, int]:
        return {"events": 0, "bad": 0}

    def apply(self, state: dict[str, int], event: Event) -> dict[str, int]:
        state["events"] += 1
        if self.broken and event.seq == 3:
            state["bad"] += 1
            raise ZeroDivisionError
        return state


class CarelessByKey(KeyedProjection[dict[str, int]]):
    def __init__(self) -> None:
        self.whole = Careless()

    def key(self, event: Event) -> str | None:
        return "all"

    def apply(self, entry: dict[str, int] | None, event: Event) -> dict[str, int] | None:
        return self.whole.apply(entry or self.whole.initial(), event)


def test_half_of_an_event_is_never_kept_even_of_careless_code(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn("acme/alice")
    whole, keyed = Careless(), CarelessByKey()
    one: Runner[Any] = system.attach(whole, "whole")
    two: Runner[Any] = system.attach(keyed, "keyed")
    one.wait_for(saved=True)
    two.wait_for(saved=True)
    for number in range(5):
        alice.set("n", number)
    parked(one)
    parked(two)
    assert one.state == two.state["all"] == {"events": 2, "bad": 0}
    whole.broken = keyed.whole.broken = False
    for runner in (one, two):
        runner.retry()
        eventually(partial(is_live, runner))
        runner.wait_for()
    assert one.state == two.state["all"] == {"events": 6, "bad": 0}


def test_a_keyed_projection_parks_retries_and_skips_alike(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(PerAgent(BAD), "agents")
    parked(runner)
    assert runner.state["acme/alice"] == [1, 2]
    runner.skip()
    eventually(lambda: runner.status == "live")
    runner.wait_for(saved=True)
    assert seqs_of(runner.state) == {"acme/alice": [1, 2, 4, 5], "other/bob": [1, 2, 3, 4, 5]}


def test_only_who_is_parked_can_be_told_to_go_on(open_system: OpenSystem) -> None:
    system = open_system()
    runner = system.attach(Count(), "count")
    runner.wait_for()
    for call in (runner.retry, runner.skip):
        with pytest.raises(InvalidMessage):
            call()


# -- states that cannot be stored --------------------------------------------------------------------------------------


class Made(Projection[Any]):
    """Becomes what it is told at the second event."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def initial(self) -> Any:
        return {}

    def apply(self, state: Any, event: Event) -> Any:
        return self.made


@pytest.mark.parametrize(
    "state",
    [(1, 2), {1: "a"}, {"a": {2: 3}}, {"a": {1, 2}}, object(), {"a": "\ud800"}, {"n": 2**64}, {"deep": [(1,)]}],
    ids=lambda state: type(state).__name__,
)
def test_a_state_that_would_not_come_back_is_refused_by_name(open_any: OpenSystem, state: Any) -> None:
    system = open_any()
    system.spawn("acme/alice")
    runner = system.attach(Made(state), "made")
    with pytest.raises(ValueRefused, match="made"):
        runner.wait_for(saved=True)
    assert (runner.status, type(runner.error)) == ("parked", ValueRefused)
    with pytest.raises(InvalidMessage, match="ValueRefused"):
        runner.skip()
    assert stored_parked(system).applied == 0
    with pytest.raises(InvalidMessage):
        system.consumers.skip("made")


@frozen
class Totals:
    events: int
    agents: frozenset[str]


class Typed(Projection[Totals]):
    def initial(self) -> Totals:
        return Totals(0, frozenset())

    def apply(self, state: Totals, event: Event) -> Totals:
        return Totals(state.events + 1, state.agents | {event.agent})

    def dump(self, state: Totals) -> Any:
        return [state.events, sorted(state.agents)]

    def load(self, data: Any) -> Totals:
        return Totals(data[0], frozenset(data[1]))


def test_a_state_of_any_type_is_stored_with_dump_and_load(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    with system.attach(Typed(), "typed") as runner:
        runner.wait_for(saved=True)
    again = open_any().attach(Typed(), "typed")
    again.wait_for()
    assert again.state == Totals(10, frozenset({"acme/alice", "other/bob"}))
    assert again.applied == 10


class Forgetful(Typed):
    def load(self, data: Any) -> Totals:
        return Totals(0, frozenset())


class BadDump(Typed):
    def dump(self, state: Totals) -> Any:
        raise KeyError("secret")


@pytest.mark.parametrize("projection", [Forgetful, BadDump])
def test_dump_and_load_that_do_not_belong_together_are_noticed(
    open_any: OpenSystem, projection: type[Projection[Any]]
) -> None:
    system = open_any()
    system.spawn("acme/alice")
    runner = system.attach(projection(), "typed")
    parked(runner)
    assert system.projections()[0].applied == 0


class BadKey(KeyedProjection[int]):
    def __init__(self, key: Any) -> None:
        self.made = key

    def key(self, event: Event) -> str | None:
        made: str = self.made
        return made

    def apply(self, entry: int | None, event: Event) -> int | None:
        return 1


@pytest.mark.parametrize("key", [7, "\ud800", b"a", ("a",), []])
def test_a_key_that_is_no_text_is_refused(open_any: OpenSystem, key: Any) -> None:
    system = open_any()
    system.spawn("acme/alice")
    runner = system.attach(BadKey(key), "keys")
    parked(runner)
    assert isinstance(runner.error, DuramenError)


def test_a_view_over_the_limit_parks_and_keeps_what_was_stored_before(open_any: OpenSystem) -> None:
    system = open_any(limits=Limits(snapshot_bytes=10_000))
    alice = system.spawn("acme/alice")

    class Grows(Projection[list[str]]):
        def initial(self) -> list[str]:
            return []

        def apply(self, state: list[str], event: Event) -> list[str]:
            return [*state, "x" * 1_000]

    runner = system.attach(Grows(), "grows")
    runner.wait_for(saved=True)
    for number in range(20):
        alice.set("n", number)
    parked(runner)
    assert isinstance(runner.error, TooLarge)
    assert runner.error.expected == 10_000
    assert 0 < stored_parked(system).applied < 10


# -- events that cannot be read ----------------------------------------------------------------------------------------


def registry_of(version: int) -> EventRegistry:
    registry = EventRegistry()

    @event_type("noted", version=version, registry=registry)
    @frozen
    class Noted:
        text: str

    class Notes(Agent):
        def on_receive(self, message: Any) -> None:
            self.emit(Noted(message))

    registry.notes = Notes  # type: ignore[attr-defined]
    return registry


def test_an_event_of_a_newer_version_parks_and_can_be_skipped(open_any: OpenSystem) -> None:
    newer: Any = registry_of(2)
    writer = open_any(registry=newer, agents={"notes": newer.notes})
    alice = writer.spawn("acme/alice", agent_type="notes")
    alice.ask("one")
    alice.set("a", 1)
    older = open_any(registry=registry_of(1))
    runner = older.attach(LastSeqs(), "seqs")
    parked(runner)
    assert isinstance(runner.error, UnknownEventType)
    assert seqs_of(runner.state) == {"acme/alice": [1]}
    runner.skip()
    eventually(lambda: runner.status == "live")
    runner.wait_for()
    assert seqs_of(runner.state) == {"acme/alice": [1, 3]}
    assert runner.skipped == (1, (("acme/alice", 2),))


def test_a_type_that_is_not_wanted_need_not_be_known(open_any: OpenSystem) -> None:
    newer: Any = registry_of(2)
    writer = open_any(registry=newer, agents={"notes": newer.notes})
    alice = writer.spawn("acme/alice", agent_type="notes")
    alice.ask("one")
    runner = open_any(registry=registry_of(1)).attach(LastSeqs(), "seqs", types=["spawned"])
    runner.wait_for()
    assert seqs_of(runner.state) == {"acme/alice": [1]}


# -- by hand, from elsewhere -------------------------------------------------------------------------------------------


def test_an_operator_skips_and_retries_from_another_process(open_any: OpenSystem) -> None:
    system, elsewhere = open_any(), open_any()
    prepared(system)
    projection = Poisoned(BAD, ("acme/alice", 4))
    runner = system.attach(projection, "seqs")
    stored_parked(elsewhere)
    assert elsewhere.consumers.skip("seqs") == BAD
    eventually(lambda: getattr(elsewhere.consumers.get("seqs").error, "seq", None) == 4)
    projection.poison.clear()
    elsewhere.consumers.retry("seqs")
    eventually(lambda: runner.status == "live")
    runner.wait_for(saved=True)
    assert runner.state["acme/alice"] == [1, 2, 4, 5]
    assert elsewhere.consumers.get("seqs").skips == (BAD,)
    assert system.log.consumer_store().find("seqs").request is None


def test_what_is_asked_while_nobody_runs_is_done_by_the_next_who_does(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(Poisoned(BAD), "seqs")
    parked(runner)
    runner.close()
    open_any().consumers.skip("seqs")
    again = system.attach(Poisoned(BAD), "seqs")
    eventually(lambda: again.status == "live")
    assert again.state["acme/alice"] == [1, 2, 4, 5]


def test_a_consumer_that_is_removed_begins_anew(open_any: OpenSystem) -> None:
    system = open_any()
    prepared(system)
    runner = system.attach(LastSeqs(), "seqs")
    runner.wait_for(saved=True)
    open_any().consumers.remove("seqs")
    eventually(lambda: runner.status == "fenced")
    assert system.projections() == []
    again = system.attach(LastSeqs(), "seqs")
    again.wait_for()
    assert seqs_of(again.state) == expected_seqs(system)
    assert again.applied == 10


@pytest.mark.parametrize("call", ["retry", "skip", "rebuild", "remove", "get"])
def test_nobody_can_be_asked_who_was_never_attached(open_any: OpenSystem, call: str) -> None:
    consumers = open_any().consumers
    ask: Callable[[str], object] = getattr(consumers, call)
    with pytest.raises(InvalidMessage, match="unheard-of"):
        ask("unheard-of")
    assert consumers.list() == []
