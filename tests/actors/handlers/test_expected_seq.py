"""Mutations for one seq of an agent, and what callers say about their mutations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from duramen.actors import (
    Agent,
    AgentHandle,
    AgentSystem,
    Batch,
    LifecycleResult,
    Pop,
    Restart,
    Set,
    SetGranularity,
    Strategy,
    Supervision,
)
from duramen.events import (
    AgentNotFound,
    CommandConflict,
    Granularity,
    InvalidMessage,
    Receipt,
    ValueRefused,
    VersionConflict,
)
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"
MEMORY = {"l": [1, 2, 3, 4], "d": {"a": 1}, "n": 0}


def batch(agent: AgentHandle, **options: Any) -> Receipt:
    with agent.batch(**options) as gathered:
        gathered.set("n", 7)
    return gathered.receipt


MUTATIONS: dict[str, Callable[..., Any]] = {
    "set": lambda agent, **options: agent.set("n", 1, **options),
    "delete": lambda agent, **options: agent.delete("l/0", **options),
    "append": lambda agent, **options: agent.append("l", 5, **options),
    "extend": lambda agent, **options: agent.extend("l", [5], **options),
    "pop": lambda agent, **options: agent.pop("l", **options),
    "merge": lambda agent, **options: agent.merge("d", {"b": 1}, **options),
    "record": lambda agent, **options: agent.record("note", 1, **options),
    "batch": batch,
    "set_granularity": lambda agent, **options: agent.set_granularity(Granularity.TRACE, **options),
    "set_retention": lambda agent, **options: agent.set_retention(None, **options),
}


def failed(call: Callable[[], Any]) -> VersionConflict:
    """The conflict that a call raises, or that its result holds."""
    try:
        result = call()
    except VersionConflict as error:
        return error
    assert isinstance(result, LifecycleResult) and not result.success
    assert isinstance(result.error, VersionConflict)
    return result.error


LIFECYCLE: dict[str, Callable[..., Any]] = {
    "pause": lambda agent, **options: agent.pause(**options),
    "pause of a tree": lambda agent, **options: agent.pause(cascade=True, **options),
    "resume": lambda agent, **options: agent.resume("c", **options),
    "resume of a tree": lambda agent, **options: agent.resume("c", cascade=True, **options),
    "terminate": lambda agent, **options: agent.terminate(**options),
}


def assert_only_at_its_seq(name: str, here: AgentHandle, agent: AgentHandle) -> None:
    call = (MUTATIONS | LIFECYCLE)[name]
    here.pause("c")
    here.resume("c")
    for stale in (2, 4, 0):
        error = failed(partial(call, agent, expected_seq=stale))
        assert (error.agent, error.seq, error.expected, error.actual) == (str(here.path), 3, stale, 3)
    assert (here.status().seq, here.status().status, here.get()) == (3, "running", MEMORY)
    result = call(agent, expected_seq=3)
    assert here.status().seq > 3
    assert not isinstance(result, LifecycleResult) or result.success


@pytest.mark.parametrize("name", [*MUTATIONS, *LIFECYCLE])
def test_a_mutation_for_another_seq_changes_nothing(system: AgentSystem, name: str) -> None:
    here = system.spawn(PATH, initial_state=MEMORY)
    assert_only_at_its_seq(name, here, here)


@pytest.mark.slow
def test_the_seq_is_compared_where_the_agent_lives(open_system: OpenSystem) -> None:
    system, elsewhere = open_system(), open_system()
    for number, name in enumerate([*MUTATIONS, *LIFECYCLE]):
        here = system.spawn(f"acme/a{number}", initial_state=MEMORY)
        assert_only_at_its_seq(name, here, elsewhere.agent(here.path))


def test_of_two_who_have_read_the_same_seq_one_writes(open_any: OpenSystem) -> None:
    handles = [open_any().spawn(PATH, initial_state={"n": 0}), open_any().agent(PATH)]
    for number in range(10):
        seqs = [handle.status().seq for handle in handles]
        assert seqs[0] == seqs[1]
        winner, loser = handles if number % 2 else handles[::-1]
        winner.set("n", number, expected_seq=seqs[0])
        with pytest.raises(VersionConflict):
            loser.set("n", -1, expected_seq=seqs[1])
    assert handles[0].get("n") == 9


def test_a_known_command_id_is_answered_before_the_seq_is_compared(open_server: OpenSystem) -> None:
    first = open_server()
    agent = first.spawn(PATH, initial_state=MEMORY)
    done = agent.set("n", 1, command_id="a", expected_seq=1)
    popped = agent.pop("l", command_id="b", expected_seq=2)
    elsewhere = open_server().agent(PATH)
    for each in (agent, elsewhere):
        assert each.set("n", 1, command_id="a", expected_seq=1) == done
        assert each.set("n", 1, command_id="a", expected_seq=99) == done
        assert each.pop("l", command_id="b", expected_seq=2) == popped
        with pytest.raises(CommandConflict):
            each.set("n", 2, command_id="a", expected_seq=3)
        with pytest.raises(VersionConflict):
            each.set("n", 2, command_id="c", expected_seq=1)
    paused = agent.pause(command_id="p", expected_seq=3)
    assert agent.pause(command_id="p", expected_seq=3).data == paused.data
    assert agent.status().seq == 4


def test_messages_of_one_turn_are_compared_one_after_the_other(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    replies = [agent.ask(Set("n", number, expected_seq=1), block=False) for number in range(3)]
    assert replies[0].get(timeout=5).seq == 2
    for reply in replies[1:]:
        with pytest.raises(VersionConflict):
            reply.get(timeout=5)


def test_a_mutation_for_a_seq_is_carried_out_once_by_a_new_owner(open_system: OpenSystem) -> None:
    first, second = open_system(), open_system()
    first.spawn(PATH, initial_state={"n": 0})
    assert second.agent(PATH).set("n", 1, expected_seq=1).seq == 2
    give_up(first, PATH)
    assert second.agent(PATH).set("n", 2, expected_seq=2).seq == 3
    with pytest.raises(VersionConflict):
        second.agent(PATH).set("n", 3, expected_seq=2)


@pytest.mark.parametrize("wrong", ["1", 1.0, True, -1])
def test_an_expected_seq_is_a_whole_number(system: AgentSystem, wrong: Any) -> None:
    agent = system.spawn(PATH, initial_state=MEMORY)
    for call in (MUTATIONS | LIFECYCLE).values():
        with pytest.raises(InvalidMessage):
            call(agent, expected_seq=wrong)
    assert agent.status().seq == 1


def test_an_agent_that_never_was_is_not_found(system: AgentSystem) -> None:
    for call in MUTATIONS.values():
        with pytest.raises(AgentNotFound):
            call(system.agent(PATH), expected_seq=3)


def test_operations_of_a_batch_have_no_seq_of_their_own(system: AgentSystem) -> None:
    with pytest.raises(InvalidMessage, match="expected_seq"):
        system.spawn(PATH).ask(Batch([Set("n", 1, expected_seq=1)]))


def test_an_asyncio_batch_has_both(open_any: OpenSystem) -> None:
    system = open_any()
    alice = system.spawn(PATH).aio

    async def run() -> None:
        async with alice.batch(expected_seq=1, metadata={"by": "kim"}) as gathered:
            gathered.set("n", 1)
            gathered.set("m", 2)
        with pytest.raises(VersionConflict):
            async with alice.batch(expected_seq=1) as late:
                late.set("n", 2)

    asyncio.run(run())
    assert [event.metadata for event in system.events(PATH, from_seq=2)] == [{"by": "kim"}] * 2


# -- metadata ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False], ids=["here", "elsewhere"])
def test_events_carry_the_metadata_of_their_mutation(open_system: OpenSystem, here: bool) -> None:
    first = open_system()
    first.spawn(PATH, initial_state=MEMORY)
    system = first if here else open_system()
    agent, about = system.agent(PATH), {"trace": "00-ab", "user": {"id": 7}}
    seen: list[Any] = []
    with first.subscribe(f"{PATH}/n", lambda change: seen.append(change.event.metadata)):
        for call in MUTATIONS.values():
            call(agent, metadata=about)
            call(agent)
        eventually(lambda: len(seen) >= 4)
    stored = [
        {key: value for key, value in (event.metadata or {}).items() if key not in ("asked_by", "reply")}
        for event in first.events(PATH, from_seq=2)
    ]
    assert stored == [about, {}] * len(MUTATIONS)
    assert [(metadata or {}).get("user") for metadata in seen] == [{"id": 7}, None] * 2  # of set and batch
    assert first.verify(PATH).ok


def test_metadata_changes_neither_state_nor_causes(system: AgentSystem) -> None:
    one, two = system.spawn("acme/one"), system.spawn("acme/two")
    one.set("n", 1, metadata={"a": 1})
    two.set("n", 1)
    assert one.get() == two.get()
    assert one.status().digest != two.status().digest
    events = [list(system.events(path))[-1] for path in ("acme/one", "acme/two")]
    assert [(event.causation_id, event.correlation_id) for event in events] == [(None, None)] * 2


def test_what_is_given_as_metadata_is_taken_at_the_call(system: AgentSystem) -> None:
    agent, about = system.spawn(PATH), {"a": [1]}
    reply = agent.ask(Set("n", 1, metadata=about), block=False)
    about["a"].append(2)
    reply.get(timeout=5)
    assert list(system.events(PATH))[-1].metadata == {"a": [1]}


def test_another_metadata_is_the_same_command(system: AgentSystem) -> None:
    agent = system.spawn(PATH)
    assert agent.set("n", 1, command_id="a", metadata={"t": 1}) == agent.set("n", 1, command_id="a", metadata={"t": 2})


@pytest.mark.parametrize("wrong", [{"reply": 1}, {"asked_by": []}, {"reply_type": "x"}, [1], "x", {1: 2}])
def test_metadata_that_is_none_is_refused(system: AgentSystem, wrong: Any) -> None:
    agent = system.spawn(PATH, initial_state=MEMORY)
    for call in MUTATIONS.values():
        with pytest.raises((InvalidMessage, ValueRefused)):
            call(agent, metadata=wrong)
    with pytest.raises((InvalidMessage, ValueRefused)):
        agent.ask(Batch([Set("n", 1, metadata=wrong)]))
    assert agent.get() == MEMORY


def test_an_operation_adds_its_own_to_the_metadata_of_its_batch(system: AgentSystem) -> None:
    system.spawn(PATH).ask(Batch([Set("n", 1, metadata={"b": 3}), Set("m", 1)], metadata={"a": 1, "b": 2}))
    found = [event.metadata for event in system.events(PATH, from_seq=2)]
    assert found == [{"a": 1, "b": 3}, {"a": 1, "b": 2}]


class Failing(Agent):
    supervision = Supervision(strategy=Strategy.STOP)

    def on_receive(self, message: Any) -> None:
        self.set("n", message, metadata={"from": "handler"})
        if message < 0:
            raise RuntimeError


def test_handlers_and_restarts_have_metadata_too(open_system: OpenSystem) -> None:
    system = open_system(agents={"failing": Failing})
    agent = system.spawn(PATH, agent_type="failing")
    agent.ask(1)
    with pytest.raises(RuntimeError):
        agent.ask(-1)
    with pytest.raises(VersionConflict):
        agent.restart(expected_seq=2)
    agent.restart(expected_seq=3, metadata={"by": "kim"})
    found = {event.type: event.metadata for event in system.events(PATH)}
    assert found["memory_set"] == {"from": "handler"} and found["restarted"] == {"by": "kim"}
    assert Restart() == Restart(None, None) and Pop("a").expected_seq is None and SetGranularity().metadata is None
