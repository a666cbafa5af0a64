"""How much of a log is kept: by the system's rule, the agent's own, or by hand; and what is never lost by it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any, ClassVar, cast

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from duramen.actors import Agent, AgentHandle, AgentSystem, Pause, Retention, SetRetention, Settings, TrimResult
from duramen.actors.commands.retention import Need
from duramen.events import (
    AgentFailed,
    AgentNotFound,
    CorruptEvent,
    Event,
    EventRegistry,
    InvalidMessage,
    Limits,
    MemoryLog,
    Trimmed,
    ValueRefused,
    event_type,
)
from duramen.events.log.consumer_store import LIVE, ConsumerRecord
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Base, Head
from duramen.events.model import count_of
from duramen.events.model.cursor import Cursor, Mark
from duramen.events.model.values import same_value
from duramen.projections import AgentState, Episode, WorkingMemory, fold
from duramen.projections.recovery import AgentLog, BaseState, pack_base, rebuild
from duramen.projections.state import copy_tree
from waiting import eventually

PATH = "acme/alice"
REGISTRY = EventRegistry()


@event_type("counted", registry=REGISTRY)
@frozen
class Counted:
    number: int


class Counter(Agent):
    """Its own events add up."""

    def initial(self) -> Any:
        return {"sum": 0}

    def apply(self, state: Any, event: Any) -> Any:
        return {"sum": state["sum"] + event.number}

    def on_receive(self, message: Any) -> Any:
        if message == "sum":
            return self.state["sum"]
        self.emit(Counted(message))
        return None


class NewerCounter(Counter):
    state_version = 2


class Recorder(Counter):
    """Its events fold to nothing."""

    apply = Agent.apply


KINDS = {"counter": Counter, "recorder": Recorder}


def head_of(system: AgentSystem, path: str = PATH) -> Head:
    head = system.log.head(path)
    assert head is not None
    return head


def base_of(system: AgentSystem, path: str = PATH) -> int:
    return head_of(system, path).base


def count_up(agent: AgentHandle, *, events: int, start: int = 0) -> None:
    for number in range(start, start + events):
        agent.set(f"n/{number % 10}", number)


def plain(state: AgentState) -> dict[str, Any]:
    return {name: int(value) if name == "granularity" else value for name, value in state.dump().items()}


def break_value(log: EventLog, key: str, change: Callable[[bytes], bytes | None]) -> None:
    """Damage what a log in memory holds under a key."""
    assert isinstance(log, MemoryLog)
    changed = change(log._storage.values.pop(key)[0])
    if changed is not None:
        log._storage.values[key] = (changed, float("inf"))


def flipped(stored: bytes) -> bytes:
    return stored[:-5] + bytes([stored[-5] ^ 16]) + stored[-4:]


# -- by itself ---------------------------------------------------------------------------------------------------------


def test_without_a_retention_everything_is_kept(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    count_up(agent, events=30)
    assert any_system.trim(PATH) == TrimResult(PATH, 0, 0, None)
    assert [event.seq for event in any_system.events(PATH)] == list(range(1, 32))


def test_by_the_systems_rule_an_agent_is_trimmed_after_its_snapshots(open_any: Callable[..., AgentSystem]) -> None:
    rule = Settings(snapshot_every=10, retention=Retention(events=15))
    with open_any(settings=rule) as system:
        agent = system.spawn(PATH)
        count_up(agent, events=100)
        eventually(lambda: base_of(system) >= 80, what="trimmed")
        assert base_of(system) <= 101 - 15
        memory = agent.get()
    with open_any(settings=rule) as system:
        agent = system.agent(PATH)
        assert agent.get() == memory
        assert agent.set("more", 1).seq == 102
        events = list(system.events(PATH, from_seq=base_of(system) + 1))
        assert [event.seq for event in events] == list(range(base_of(system) + 1, 103))


def test_an_agents_own_rule_goes_before_the_systems_and_is_known_after_a_restart(
    open_any: Callable[..., AgentSystem],
) -> None:
    every = 10
    with open_any(settings=Settings(snapshot_every=every)) as system:
        agent = system.spawn(PATH)
        assert agent.set_retention(Retention(events=5)).seq == 2
    with open_any(settings=Settings(snapshot_every=every)) as system:
        count_up(system.agent(PATH), events=50)
        eventually(lambda: base_of(system) >= 30, what="trimmed")
    with open_any(settings=Settings(snapshot_every=every, retention=Retention(events=1))) as system:
        agent = system.agent(PATH)
        agent.set_retention(Retention())
        before = base_of(system)
        count_up(agent, events=40)
        assert system.trim(PATH).removed == 0
        assert base_of(system) == before
        agent.set_retention(None)
        assert system.trim(PATH).base == head_of(system).seq - 1


def test_a_rule_that_is_too_young_to_let_anything_go_lets_nothing_go(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    count_up(agent, events=20)
    assert system.trim(PATH, keep_events=21).removed == 0
    assert system.trim(PATH, keep_events=10**9).removed == 0
    assert system.trim(PATH, keep_days=1).removed == 0


def test_an_error_of_an_automatic_trimming_harms_no_agent(open_system: Callable[..., AgentSystem]) -> None:
    with open_system(settings=Settings(snapshot_every=10, retention=Retention(events=5))) as system:
        asked = threading.Event()

        def fails(agent: str) -> None:
            asked.set()
            raise RuntimeError("a plug that is broken")

        system._services.trimmer.add_needs(fails)
        agent = system.spawn(PATH)
        count_up(agent, events=30)
        assert asked.wait(10)
        assert agent.get("n/0") == 20
        assert base_of(system) == 0


def test_a_system_closes_while_it_trims(open_system: Callable[..., AgentSystem], gate: threading.Event) -> None:
    with open_system(settings=Settings(snapshot_every=10, retention=Retention(events=5))) as system:
        begun = threading.Event()

        def waits(agent: str) -> None:
            begun.set()
            gate.wait(60)

        trimmer = system._services.trimmer
        trimmer.add_needs(waits)
        for number in range(5):
            count_up(system.spawn(f"acme/a{number}"), events=30)
        assert begun.wait(10)
        threading.Thread(target=lambda: trimmer._closing.wait(60) and gate.set()).start()
        system.close(timeout=30)
        with pytest.raises(AssertionError):
            eventually(lambda: base_of(system, "acme/a4"), 0.1)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_by_hand_the_last_events_stay(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    count_up(agent, events=30)
    memory, told = agent.get(), any_system.trim(PATH, keep_events=4, dry_run=True)
    assert base_of(any_system) == 0
    assert any_system.trim(PATH, keep_events=4) == told == TrimResult(PATH, 27, 27, None)
    assert any_system.trim(PATH, keep_events=4) == TrimResult(PATH, 27, 0, None)
    assert [event.seq for event in any_system.events(PATH, from_seq=28)] == [28, 29, 30, 31]
    assert agent.get() == memory == any_system.peek(PATH).memory
    with pytest.raises(Trimmed) as caught:
        list(any_system.events(PATH))
    assert (caught.value.agent, caught.value.actual) == (PATH, 28)


def test_when_everything_was_trimmed_numbers_go_on(open_any: Callable[..., AgentSystem]) -> None:
    with open_any() as system:
        agent = system.spawn(PATH, session_id="s", initial_state={"a": [1]})
        count_up(agent, events=30)
        memory = system.peek(PATH).memory
        assert system.trim(PATH, keep_events=0) == TrimResult(PATH, 31, 31, None)
        assert agent.set("live", 1).seq == 32
        system.trim(PATH, keep_events=0)
    with open_any() as system:
        agent = system.agent(PATH)
        assert agent.get("n") == memory["n"]
        assert agent.set("more", 1).seq == 33
        for seq in (1, 31, 32):
            with pytest.raises(Trimmed):
                list(system.events(PATH, from_seq=seq))
        assert [event.data["path"] for event in system.events(PATH, from_seq=33)] == ["more"]


def set_back(system: AgentSystem, days: int) -> None:
    """Let the system's clock stand so many days ago."""
    back = timedelta(days=days) // timedelta(microseconds=1)
    system._services.now = lambda: time.time_ns() // 1000 - back


def test_events_of_the_last_days_stay(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    for age in (10, 5, 2, 6, 0):
        set_back(system, age)
        agent.set("age", age)
    # All of the prefix is older: not the one of six days that stands behind a younger one.
    set_back(system, 20)
    assert system.trim(PATH, keep_days=20).removed == 0
    assert system.trim(PATH, keep_days=4).removed == 0, "the first event is young"


def test_events_that_are_older_go_up_to_the_first_that_is_not(system: AgentSystem) -> None:
    set_back(system, 11)
    agent = system.spawn(PATH)
    for age in (10, 5, 2, 6, 0):
        set_back(system, age)
        agent.set("age", age)
    assert system.trim(PATH, keep_days=20).removed == 0
    assert system.trim(PATH, keep_days=4, keep_events=4, dry_run=True).base == 2
    assert system.trim(PATH, keep_days=4).base == 3
    assert [event.data["value"] for event in system.events(PATH, from_seq=4)] == [2, 6, 0]
    assert system.trim(PATH, keep_days=0.001).base == 5


@pytest.mark.parametrize("wrong", [{"keep_events": -1}, {"keep_events": 1.5}, {"keep_events": True},
                                   {"keep_days": 0}, {"keep_days": -2}, {"keep_days": "3"},
                                   {"keep_days": float("nan")}, {"keep_days": 10**9}])  # fmt: skip
def test_what_is_no_retention_is_refused(system: AgentSystem, wrong: dict[str, Any]) -> None:
    system.spawn(PATH)
    with pytest.raises(InvalidMessage):
        system.trim(PATH, **wrong)
    with pytest.raises(InvalidMessage):
        Retention(**{name.removeprefix("keep_"): value for name, value in wrong.items()})


def test_an_agent_takes_a_retention_and_nothing_else(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    for wrong in ({"events": 3}, 3, "all"):
        with pytest.raises(InvalidMessage):
            agent.ask(SetRetention(cast("Any", wrong)))
    assert head_of(system).seq == 1
    agent.pause()
    first = agent.set_retention(Retention(days=1), command_id="c")
    assert agent.set_retention(Retention(days=1), command_id="c") == first


def test_an_agent_that_never_was_is_not_trimmed(any_system: AgentSystem) -> None:
    with pytest.raises(AgentNotFound):
        any_system.trim("acme/nobody", keep_events=0)


def test_trimming_can_be_awaited(system: AgentSystem) -> None:
    count_up(system.spawn(PATH), events=3)
    assert asyncio.run(system.aio.trim(PATH, keep_events=1)).base == 3


# -- what is needed ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_comes_after_it(open_any: Callable[..., AgentSystem]) -> None:
    with open_any() as system:
        agent = system.spawn(PATH)
        count_up(agent, events=5)
        memory = agent.get()
        agent.pause("lunch")
        agent.resume("lunch")
        count_up(agent, events=20, start=100)
        assert system.trim(PATH, keep_events=0) == TrimResult(PATH, 6, 6, "checkpoint 'lunch'")
        assert system.peek(PATH).memory == agent.get()
    with open_any() as system:
        agent = system.agent(PATH)
        agent.resume("lunch")
        assert agent.get() == memory
        assert system.trim(PATH, keep_events=0).removed == 0
        agent.pause("lunch")
        agent.resume("lunch")
        result = system.trim(PATH, keep_events=0)
        assert (result.held_by, result.base) == ("checkpoint 'lunch'", head_of(system).seq - 2)


def test_a_damaged_checkpoint_is_made_again_from_a_trimmed_log(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    count_up(agent, events=5)
    memory = agent.get()
    agent.pause("lunch")
    agent.resume("lunch")
    count_up(agent, events=5, start=50)
    system.trim(PATH, keep_events=0)
    break_value(system.log, system.log.checkpoint_key(PATH, "lunch"), flipped)
    agent.resume("lunch")
    assert agent.get() == memory


def test_a_checkpoint_that_is_gone_holds_nothing(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    agent.ask(Pause(checkpoint_id="lunch"))
    agent.resume("lunch")
    break_value(system.log, system.log.checkpoint_key(PATH, "lunch"), lambda stored: None)
    assert system.trim(PATH, keep_events=0) == TrimResult(PATH, 3, 3, None)


def consumer_at(system: AgentSystem, position: int, *, scope: str = "** 1234 *", offset: int = 0) -> None:
    """A durable consumer that has come so far in the partition of the agent, and to the end of all others."""
    log = system.log
    marks = {partition: Mark(end) for partition, end in enumerate(log.positions())}
    marks[log.partition_of(PATH)] = Mark(position, offset)
    fresh = ConsumerRecord(name="costs", slot=LIVE, kind="sink", version=1, scope=scope, cursor=Cursor(log.identity))
    record = log.consumer_store().claim(fresh, "test")
    assert record is not None
    assert log.consumer_store().save(evolve(record, cursor=Cursor(log.identity, marks))).current


def test_a_consumer_holds_what_it_has_still_to_read(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    count_up(agent, events=19)
    consumer_at(any_system, 8)
    assert any_system.trim(PATH, keep_events=0) == TrimResult(PATH, 8, 8, "consumer 'costs'")
    assert any_system.log.feed_page(any_system.log.partition_of(PATH), 8, 1).entries[0].first_seq == 9
    consumer_at(any_system, 20)
    assert any_system.trim(PATH, keep_events=0) == TrimResult(PATH, 20, 20 - 8, None)
    with pytest.raises(Trimmed):
        any_system.log.feed_page(any_system.log.partition_of(PATH), 19, 1).entries


def test_a_consumer_in_the_middle_of_an_append_holds_the_rest_of_it(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    with agent.batch() as batch:
        for number in range(5):
            batch.set("n", number)
    consumer_at(system, 1, offset=3)
    assert system.trim(PATH, keep_events=0) == TrimResult(PATH, 4, 4, "consumer 'costs'")


def test_a_consumer_of_other_agents_holds_nothing(system: AgentSystem) -> None:
    count_up(system.spawn(PATH), events=5)
    consumer_at(system, 0, scope="acme/bob 1234 *")
    assert system.trim(PATH, keep_events=0).held_by is None


def test_whatever_else_needs_a_part_says_so(system: AgentSystem) -> None:
    count_up(system.spawn(PATH), events=9)
    system._services.trimmer.add_needs(lambda agent: Need(5, "fork acme/alice-b") if agent == PATH else None)
    assert system.trim(PATH, keep_events=0) == TrimResult(PATH, 4, 4, "fork acme/alice-b")
    assert system.trim(PATH, keep_events=8).held_by is None


def test_a_feed_is_trimmed_only_where_all_its_events_are_gone(any_system: AgentSystem) -> None:
    one, other = any_system.spawn("acme/root/one"), any_system.spawn("acme/root/two")
    count_up(one, events=5)
    count_up(other, events=5)
    partition = any_system.log.partition_of("acme/root/one")
    any_system.trim("acme/root/one", keep_events=0)
    assert [entry.agent for entry in any_system.log.feed_page(partition, 1, 1).entries] == ["acme/root/two"]
    any_system.trim("acme/root/two", keep_events=1)
    assert [entry.first_seq for entry in any_system.log.feed_page(partition, 11, 5).entries] == [6]
    with pytest.raises(Trimmed):
        any_system.log.feed_page(partition, 10, 1).entries


# -- recovery ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trimmed() -> MemoryLog:
    """An agent with 26 events of which 15 were trimmed, and a snapshot at 20."""
    log = MemoryLog()
    with AgentSystem.open(log=log, settings=Settings(snapshot_every=10)) as system:
        count_up(system.spawn(PATH), events=25)
        system.trim(PATH, keep_events=11)
    return log


def memory_of(log: MemoryLog) -> Any:
    with AgentSystem.open(log=log) as system:
        found = system.agent(PATH).get()
        assert found == system.peek(PATH).memory
        return found


def test_without_its_snapshot_an_agent_starts_at_its_base(trimmed: MemoryLog) -> None:
    expected = memory_of(trimmed)
    break_value(trimmed, trimmed.snapshot_key(PATH), lambda stored: None)
    assert memory_of(trimmed) == expected


def test_a_damaged_snapshot_falls_back_to_the_base(trimmed: MemoryLog) -> None:
    expected = memory_of(trimmed)
    break_value(trimmed, trimmed.snapshot_key(PATH), flipped)
    assert memory_of(trimmed) == expected


def test_a_snapshot_older_than_the_base_is_of_no_use(trimmed: MemoryLog) -> None:
    expected = memory_of(trimmed)
    with AgentSystem.open(log=trimmed) as system:
        system.trim(PATH, keep_events=2)
    assert memory_of(trimmed) == expected


def test_a_damaged_base_harms_no_agent_that_has_a_snapshot(trimmed: MemoryLog) -> None:
    expected = memory_of(trimmed)
    break_value(trimmed, trimmed.base_key(PATH), flipped)
    assert memory_of(trimmed) == expected


@pytest.mark.parametrize(
    "damage",
    [lambda stored: None, flipped, lambda stored: b"", lambda stored: stored[:40]],
    ids=["missing", "flipped", "empty", "cut"],
)
def test_without_base_and_snapshot_the_caller_gets_the_error_and_nothing_starts(
    trimmed: MemoryLog, damage: Callable[[bytes], bytes | None]
) -> None:
    break_value(trimmed, trimmed.base_key(PATH), damage)
    break_value(trimmed, trimmed.snapshot_key(PATH), lambda stored: None)
    with AgentSystem.open(log=trimmed) as system:
        for _ in range(2):
            with pytest.raises(CorruptEvent) as caught:
                system.agent(PATH).get()
            assert caught.value.agent == PATH
        with pytest.raises(CorruptEvent):
            system.peek(PATH)
        with pytest.raises(CorruptEvent):
            system.trim(PATH, keep_events=0)
        assert head_of(system).base == 15


def test_an_event_that_was_changed_is_found_behind_the_base(trimmed: MemoryLog) -> None:
    items = trimmed._storage.logs[trimmed.log_key(PATH)]
    items[0] = flipped(items[0])
    break_value(trimmed, trimmed.snapshot_key(PATH), lambda stored: None)
    with AgentSystem.open(log=trimmed) as system:
        for read in (
            lambda: system.agent(PATH).get(),
            lambda: list(system.events(PATH, from_seq=16)),
            lambda: system.trim(PATH, keep_events=2),
        ):
            with pytest.raises(CorruptEvent) as caught:
                read()
            assert caught.value.seq == 16


# -- sessions and commands ---------------------------------------------------------------------------------------------


def test_an_episode_is_of_the_whole_session_though_most_of_it_is_trimmed(
    open_system: Callable[..., AgentSystem],
) -> None:
    episodes: list[Episode] = []
    for trims in (False, True):
        with AgentSystem.open(log=MemoryLog()) as system:
            agent = system.spawn(PATH, session_id="before")
            agent.record("tool_output", {"tool": "never", "tokens_used": 1000})
            agent.terminate()
            agent = system.spawn(PATH, session_id="s")
            for number in range(20):
                agent.record("tool_output", {"tool": f"t{number % 3}", "tokens_used": 7})
                if trims and number % 5 == 0:
                    system.trim(PATH, keep_events=number % 4)
            agent.terminate()
            episodes.append(system.episodes.list(agent=PATH)[0])
    whole, part = episodes
    assert (part.tokens_used, part.actions, part.context_summary) == (140, whole.actions, whole.context_summary)
    assert (part.first_seq, part.last_seq, part.id) == (whole.first_seq, whole.last_seq, whole.id)


def test_a_session_ends_though_what_was_kept_of_it_is_damaged(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    count_up(agent, events=10)
    system.trim(PATH, keep_events=2)
    break_value(system.log, system.log.base_key(PATH), flipped)
    assert agent.terminate().success
    assert system.episodes.list()[0].context_summary.startswith("2 events")


def test_commands_are_recognised_though_their_events_are_gone(open_any: Callable[..., AgentSystem]) -> None:
    with open_any() as system:
        agent = system.spawn(PATH, command_id="c-0")
        receipt = agent.set("a", 1, command_id="c-1")
        agent.pause("lunch", command_id="c-2")
        agent.resume("lunch", command_id="c-3")
        agent.pause("lunch", ttl=None, command_id="c-4")
        system.trim(PATH, keep_events=0)
    with open_any() as system:
        agent = system.agent(PATH)
        assert agent.set("a", 1, command_id="c-1") == receipt
        # Its result was made from its events; that they are gone is no reason to do it again.
        with pytest.raises(Trimmed):
            agent.pause("lunch", command_id="c-2")
        assert agent.pause("lunch", ttl=None, command_id="c-4").success
        assert head_of(system).seq == 5


# -- the user's own agents ---------------------------------------------------------------------------------------------


@pytest.fixture
def counted() -> MemoryLog:
    """A counter that has counted to ten; its log is trimmed up to seven, and it has no snapshot."""
    log = MemoryLog()
    with AgentSystem.open(log=log, registry=REGISTRY, agents=KINDS) as system:
        agent = system.spawn(PATH, agent_type="counter")
        for number in range(1, 11):
            agent.ask(number)
        assert system.trim(PATH, keep_events=4).base == 7
    return log


def test_what_its_own_events_have_made_stays(counted: MemoryLog) -> None:
    for keep in (4, 1, 0):
        with AgentSystem.open(log=counted, registry=REGISTRY, agents=KINDS) as system:
            assert system.agent(PATH).ask("sum") == 55
            system.trim(PATH, keep_events=keep)


def test_events_that_cannot_be_folded_here_are_not_trimmed(counted: MemoryLog) -> None:
    with AgentSystem.open(log=counted, registry=REGISTRY) as system:
        with pytest.raises(InvalidMessage, match="not registered"):
            system.trim(PATH, keep_events=0)
        assert base_of(system) == 7


def test_events_that_fold_to_nothing_are_trimmed() -> None:
    with AgentSystem.open(log=MemoryLog(), registry=REGISTRY, agents=KINDS) as other:
        agent = other.spawn(PATH, agent_type="recorder")
        agent.ask(1)
        assert other.trim(PATH, keep_events=0).base == 2
        agent.terminate()
        # The next session begins anew, and may be of any type.
        agent = other.spawn(PATH, agent_type="counter")
        agent.ask(5)
        other.trim(PATH, keep_events=0)
        assert agent.ask("sum") == 5


def test_a_newer_form_of_its_own_state_is_not_mixed_with_the_older_one(counted: MemoryLog) -> None:
    with AgentSystem.open(log=counted, registry=REGISTRY, agents={"counter": NewerCounter}) as system:
        with pytest.raises(Trimmed, match="form"):
            system.agent(PATH).ask("sum")
        assert system.peek(PATH).seq == 11


def test_a_newer_form_starts_where_there_was_nothing_to_fold() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log, registry=REGISTRY, agents=KINDS) as other:
        other.spawn(PATH, agent_type="counter").set("a", 1)
        other.trim(PATH, keep_events=0)
    with AgentSystem.open(log=log, registry=REGISTRY, agents={"counter": NewerCounter}) as other:
        agent = other.agent(PATH)
        agent.ask(3)
        assert agent.ask("sum") == 3


def test_a_fold_that_raises_trims_nothing(counted: MemoryLog) -> None:
    class Broken(Counter):
        def apply(self, state: Any, event: Any) -> Any:
            raise RuntimeError("no")

    with AgentSystem.open(log=counted, registry=REGISTRY, agents={"counter": Broken}) as system:
        with pytest.raises(AgentFailed):
            system.trim(PATH, keep_events=0)
        assert base_of(system) == 7


def renamed(kind: type[Agent]) -> type[Agent]:
    return type("BetterNamed", (kind,), {})


def test_a_class_may_be_renamed_after_its_log_was_trimmed(counted: MemoryLog) -> None:
    with AgentSystem.open(log=counted, registry=REGISTRY, agents={"counter": renamed(Counter)}) as system:
        agent = system.agent(PATH)
        assert agent.ask("sum") == 55
        agent.ask(1)
        assert system.trim(PATH, keep_events=0).base == 12
        assert system.fork(PATH, to="acme/fork").ask("sum") == 56
        assert system.verify().ok
    with AgentSystem.open(log=counted, registry=REGISTRY, agents=KINDS) as system:
        assert system.agent(PATH).ask("sum") == 56
    newer = {"counter": renamed(NewerCounter)}  # the control: the version is what counts
    with AgentSystem.open(log=counted, registry=REGISTRY, agents=newer) as system, pytest.raises(Trimmed, match="form"):
        system.agent(PATH).ask("sum")


@pytest.mark.parametrize(
    ("form", "is_read"), [("Counter/1", True), ("OldName/1", True), ("1", True), ("Counter/2", False)]
)
def test_a_base_whose_form_has_the_name_of_a_class_is_read_by_its_version(form: str, is_read: bool) -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log, registry=REGISTRY, agents=KINDS) as system:
        system.spawn(PATH, agent_type="counter").ask(5)
    agent_log = AgentLog(log, PATH, Limits(), REGISTRY)
    state = rebuild(agent_log, use_snapshot=False).state
    log.trim(PATH, Base(state.seq, state.digest), pack_base(agent_log, BaseState(state, {"sum": 5}, form)))
    with AgentSystem.open(log=log, registry=REGISTRY, agents=KINDS) as system:
        if is_read:
            assert system.agent(PATH).ask("sum") == 5
        else:
            with pytest.raises(Trimmed, match="form"):
                system.agent(PATH).ask("sum")


# -- a state that would not come back ----------------------------------------------------------------------------------


class Level(IntEnum):
    HIGH = 3


class Maker(Agent):
    """Its state is what `makes` gives for the number of its event."""

    makes: ClassVar[Callable[[int], Any]]

    def initial(self) -> Any:
        return {}

    def apply(self, state: Any, event: Any) -> Any:
        return {**state, "made": type(self).makes(event.number)}

    def on_receive(self, message: Any) -> Any:
        if message == "state":
            return copy_tree(self.state)
        self.emit(Counted(message))
        return None


def making(makes: Callable[[int], Any]) -> dict[str, Any]:
    return {"maker": type("Maker", (Maker,), {"makes": staticmethod(makes)})}


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


UNSTORABLE: dict[str, Callable[[int], Any]] = {
    "int key": lambda number: {number: 1},
    "None key": lambda number: {None: number},
    "bool key": lambda number: [{True: number}],
    "tuple": lambda number: (number,),
    "tuple key": lambda number: {(number,): 1},
    "set": lambda number: {number},
    "counter": lambda number: Tally({"a": number}),
    "bytearray": lambda number: {"b": bytearray(b"x")},
    "memoryview": lambda number: [memoryview(b"x")],
    "enum": lambda number: Level.HIGH,
    "object": lambda number: object(),
    "event": Counted,
    "large int": lambda number: 2**64,
    "lone surrogate": lambda number: "\udcff",
    "naive time": lambda number: datetime(2024, 1, 1),
    "offset of half a second": lambda number: datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=1.5))),
    "too deep": lambda number: nested(5_000),
}
STORABLE: dict[str, Callable[[int], Any]] = {
    "text keys": lambda number: {str(number): [number, {"x": None, "y": 1.5, "z": True}]},
    "bytes": lambda number: [b"\xc4\xc5", b""],
    "time": lambda number: datetime(2024, 1, 1, tzinfo=UTC),
    "text of such bytes": lambda number: "Ä ĄŇ Ǆ",
    "floats": lambda number: [float("nan"), -0.0, float("inf")],
    "deep": lambda number: nested(100),
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_state_that_would_not_come_back_is_refused_when_it_arises(name: str) -> None:
    def makes(number: int) -> Any:
        return UNSTORABLE[name](number) if number > 1 else "fine"

    with AgentSystem.open(log=MemoryLog(), registry=REGISTRY, agents=making(makes)) as system:
        agent = system.spawn(PATH, agent_type="maker")
        agent.ask(1)
        with pytest.raises(ValueRefused):
            agent.ask(2)
        assert (agent.ask("state"), head_of(system).seq) == ({"made": "fine"}, 2)
        agent.ask(1)
        assert head_of(system).seq == 3


@pytest.mark.parametrize("name", STORABLE)
def test_a_state_of_plain_data_comes_back_from_a_base(name: str) -> None:
    log, kinds = MemoryLog(), making(STORABLE[name])
    with AgentSystem.open(log=log, registry=REGISTRY, agents=kinds) as system:
        agent = system.spawn(PATH, agent_type="maker")
        agent.ask(1)
        state = agent.ask("state")
        assert system.trim(PATH, keep_events=0).base == 2
    with AgentSystem.open(log=log, registry=REGISTRY, agents=kinds) as system:
        assert same_value(system.agent(PATH).ask("state"), state)


def test_an_initial_state_that_would_not_come_back_starts_no_session() -> None:
    class Ballot(Counter):
        def initial(self) -> Any:
            return {7: 1}

    with AgentSystem.open(log=MemoryLog(), registry=REGISTRY, agents={**KINDS, "ballot": Ballot}) as system:
        with pytest.raises(ValueRefused, match="initial state of Ballot"):
            system.spawn(PATH, agent_type="ballot")
        assert system.log.head(PATH) is None
        agent = system.spawn(PATH, agent_type="counter")
        agent.terminate()
        with pytest.raises(ValueRefused, match="initial state of Ballot"):
            system.spawn(PATH, agent_type="ballot")
        assert head_of(system).seq == 3


def test_what_replaces_events_is_only_written_if_it_comes_back(open_any: Callable[..., AgentSystem]) -> None:
    rule = Settings(snapshot_every=5, retention=Retention(events=3))
    with open_any(settings=Settings(snapshot_every=5), registry=REGISTRY, agents=making(str)) as system:
        agent = system.spawn(PATH, agent_type="maker")
        for number in range(20):
            agent.ask(number)
    # The class as it was before: it folds the same events to a state that no snapshot can hold.
    with open_any(settings=rule, registry=REGISTRY, agents=making(lambda number: {number: 1})) as system:
        agent = system.agent(PATH)
        for attempt in (
            lambda: system.trim(PATH, keep_events=0),
            lambda: system.fork(PATH, to="acme/fork"),
            lambda: agent.pause("lunch").raise_for_failure(),
        ):
            with pytest.raises(ValueRefused):
                attempt()
        count_up(agent, events=20)
        assert base_of(system) == 0 and system.log.head("acme/fork") is None
    with open_any(registry=REGISTRY, agents=making(str)) as system:
        assert system.agent(PATH).ask("state") == {"made": "19"}
        assert system.verify().ok


# -- the law -----------------------------------------------------------------------------------------------------------

# A pause holds all that comes after it, so there are few of them.
KIND = st.sampled_from(["set", "record", "trim"] * 4 + ["pause", "end", "end", "reopen", "reopen"])
STEPS = st.lists(st.tuples(KIND, st.integers(0, 5)), min_size=8, max_size=40)


@pytest.mark.slow
@settings(max_examples=100)
@given(steps=STEPS, every=st.integers(2, 15), own=st.none() | st.integers(1, 4))
def test_whatever_was_trimmed_and_when_the_state_is_that_of_the_whole_history(
    steps: list[tuple[str, int]], every: int, own: int | None
) -> None:
    log = MemoryLog()
    seen: list[Event] = []

    def opened() -> AgentSystem:
        return AgentSystem.open(log=log, settings=Settings(snapshot_every=every))

    def look(system: AgentSystem) -> None:
        """What is new in the log, before anything of it can be trimmed."""
        seen.extend(system.events(PATH, from_seq=len(seen) + 1))

    system = opened()
    try:
        system.spawn(PATH, session_id="s")
        look(system)
        for what, number in steps:
            agent = system.agent(PATH)
            if what == "trim":
                system.trim(PATH, keep_events=number if own is None else own)
            elif what == "reopen":
                system.close()
                system = opened()
            elif what == "set":
                agent.set(f"k{number}", number)
            elif what == "record":
                agent.record("tool_output", {"tool": "t", "tokens_used": number})
            elif what == "pause":
                agent.pause(f"c{number}")
                agent.resume(f"c{number}", clear_current=False)
            else:
                agent.terminate()
                system.spawn(PATH, session_id=f"s{len(seen)}", initial_state={"n": number})
            look(system)
        whole = fold(WorkingMemory(), seen)
        assert same_value(plain(whole), plain(rebuild(AgentLog(system.log, PATH, Limits())).state))
        base = base_of(system)
        assert [event.digest for event in system.events(PATH, from_seq=base + 1)] == [e.digest for e in seen[base:]]
        system.agent(PATH).terminate()
        [episode, *_] = system.episodes.list(agent=PATH)
        session = [event for event in seen if event.seq >= episode.first_seq]
        tokens = sum(event.data["data"]["tokens_used"] for event in session if event.type == "activity_recorded")
        assert episode.tokens_used == tokens
        assert episode.context_summary.startswith(count_of(len(session), "event"))
    finally:
        system.close()
