"""Reactors act on what agents do anywhere: each event at least once, and once in what they ask of agents."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentSystem, Reaction, Retry
from duramen.events import ConsumerParked, Event, EventRegistry, InvalidMessage, message_type
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()


@message_type("seen", durable=True, registry=REGISTRY)
@frozen
class Seen:
    agent: str
    seq: int


class Auditor(Agent):
    async def on_receive(self, message: Seen) -> None:
        self.append("seen", [message.agent, message.seq])


def audit(event: Event, reaction: Reaction) -> None:
    reaction.agent("acme/auditor").send(Seen(event.agent, event.seq))


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    return opened(open_system)


def opened(open_system: OpenSystem) -> AgentSystem:
    return open_system(registry=REGISTRY, agents={"auditor": Auditor})


def spawned(system: AgentSystem) -> Any:
    system.spawn("acme/auditor", agent_type="auditor")
    return system.spawn("shop/alice")


def seen(system: AgentSystem) -> list[Any]:
    found: list[Any] = system.agent("acme/auditor").get("seen", [])
    return found


def test_a_reactor_acts_on_the_events_of_its_agents_and_types_from_now_on(open_any: OpenSystem) -> None:
    system = opened(open_any)
    alice = spawned(system)
    alice.set("before", 1)
    with system.react("audit", audit, pattern="shop/**", types=["memory_set"]) as reactor:
        wanted = alice.set("a", 1)
        alice.append("l", 1)
        system.agent("acme/auditor").set("own", 1)
        reactor.wait_for(alice.set("b", 2))
        eventually(lambda: len(seen(system)) == 2)
    assert seen(system) == [["shop/alice", wanted.seq], ["shop/alice", wanted.seq + 2]]


def test_a_reactor_goes_on_where_it_was_and_begins_where_it_is_told(open_system: OpenSystem) -> None:
    system = opened(open_system)
    alice = spawned(system)
    found: list[tuple[str, int]] = []

    def note(event: Event, _: Reaction) -> None:
        found.append((event.agent, event.seq))

    with system.react("all", note, pattern="shop/*", from_start=True) as reactor:
        reactor.wait_for(alice.set("a", 1), saved=True)
    alice.set("b", 2)
    with system.react("all", note, pattern="shop/*", from_start=True) as reactor:
        reactor.wait_for(alice.set("c", 3))
    assert found == [("shop/alice", seq) for seq in (1, 2, 3, 4)]


def test_what_a_reactor_asks_of_agents_happens_once_though_it_is_called_again(system: AgentSystem) -> None:
    alice = spawned(system)
    keys: list[str] = []

    def count(event: Event, reaction: Reaction) -> None:
        bob = reaction.agent("shop/bob")
        bob.append("events", event.seq)
        bob.append("events", -event.seq)
        keys.append(reaction.key)
        if keys.count(reaction.key) == 1:
            raise ConnectionError("after its effect")

    system.spawn("shop/bob")
    with system.react("count", count, pattern="shop/alice", retry=Retry(times=2, backoff=0.0)) as reactor:
        reactor.wait_for([alice.set("a", 1), alice.set("a", 2)])
    assert system.agent("shop/bob").get("events") == [2, -2, 3, -3]
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [2, 2]  # the control: each was called twice


def test_a_handler_that_was_cut_off_is_called_again_elsewhere(open_system: OpenSystem) -> None:
    """The first host's runner never stores that it was there, as where its process was killed."""
    first, second = opened(open_system), opened(open_system)
    alice = spawned(first)
    reached = threading.Event()

    def act(event: Event, reaction: Reaction) -> None:
        reaction.agent("shop/bob").append("events", event.seq)
        reached.set()

    first.spawn("shop/bob")
    reactor = first.react("act", act, pattern="shop/alice")
    reactor._consumer.abandon()
    alice.set("a", 1)
    assert reached.wait(10)
    with second.react("act", act, pattern="shop/alice") as again:
        again.wait_for()
        assert again.applied == 1  # the control: it was handed the event again
    assert second.agent("shop/bob").get("events") == [2]


def test_a_coroutine_reacts_on_the_loop_and_can_send_messages_of_ones_own(system: AgentSystem) -> None:
    alice = spawned(system)

    async def act(event: Event, reaction: Reaction) -> None:
        receipt = await reaction.agent("acme/auditor").aio.send(Seen(event.agent, event.seq))
        await reaction.agent("acme/auditor").aio.result(receipt)

    with system.react("audit", act, pattern="shop/**") as reactor:
        receipt = alice.set("a", 1)
        reactor.wait_for(receipt)
    assert seen(system) == [["shop/alice", receipt.seq]]


def test_what_a_handler_returns_to_be_awaited_is_awaited(system: AgentSystem) -> None:
    alice, awaited = spawned(system), list[int]()

    class Later:
        def __init__(self, seq: int) -> None:
            self.seq = seq

        def __await__(self) -> Any:
            awaited.append(self.seq)
            yield from ()

    with system.react("audit", lambda event, _: Later(event.seq), pattern="shop/**") as reactor:
        receipt = alice.set("a", 1)
        reactor.wait_for(receipt)
    assert awaited == [receipt.seq]


def test_a_reactor_is_parked_at_an_event_after_its_last_attempt_and_skips_it_if_told(system: AgentSystem) -> None:
    alice = spawned(system)
    tried: list[int] = []

    def act(event: Event, _: Reaction) -> None:
        tried.append(event.seq)
        if event.seq == 3:
            raise ValueError("not this one")

    with system.react("act", act, pattern="shop/alice", retry=Retry(times=3, backoff=0.0)) as reactor:
        receipts = [alice.set("a", number) for number in range(3)]
        with pytest.raises(ConsumerParked, match="ValueError at event 3"):
            reactor.wait_for(receipts)
        assert (tried, reactor.status) == ([2, 3, 3, 3], "parked")
        reactor.skip()
        reactor.wait_for(receipts)
        assert (tried[4:], reactor.skipped[0]) == ([4], 1)


def test_an_error_that_is_never_to_be_tried_again_parks_at_once(system: AgentSystem) -> None:
    alice = spawned(system)
    tried: list[int] = []

    def act(event: Event, _: Reaction) -> None:
        tried.append(event.seq)
        raise PermissionError("no")

    with system.react("act", act, retry=Retry(times=5, backoff=0.0, never=OSError)) as reactor:
        with pytest.raises(ConsumerParked):
            reactor.wait_for(alice.set("a", 1))
        assert tried == [2]


def test_a_reactor_does_not_act_again_on_the_past(system: AgentSystem) -> None:
    alice = spawned(system)
    found: list[int] = []

    def act(event: Event, _: Reaction) -> None:
        found.append(event.seq)

    with system.react("act", act, pattern="shop/alice") as reactor:
        reactor.wait_for(alice.set("a", 1), saved=True)
        with pytest.raises(InvalidMessage, match="does not act again"):
            reactor.rebuild()
    with pytest.raises(InvalidMessage, match="give it another name"):
        system.react("act", act, pattern="shop/*")
    assert found == [2]


def yielding(event: Event, reaction: Reaction) -> Any:
    yield reaction.agent("acme/auditor").set("seen", event.seq)


async def yielding_later(event: Event, reaction: Reaction) -> Any:
    yield await reaction.agent("acme/auditor").aio.set("seen", event.seq)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"handler": None}, "a function of an event"),
        ({"handler": yielding}, "never run a generator"),
        ({"handler": yielding_later}, "never run a generator"),
        ({"retry": 3}, "is a Retry"),
        ({"from_start": True, "after": "cursor"}, "not both"),
    ],
)
def test_what_cannot_react_is_refused(system: AgentSystem, arguments: dict[str, Any], told: str) -> None:
    given = {"handler": audit} | arguments
    if "after" in given:
        given["after"] = system.cursor()
    with pytest.raises(InvalidMessage, match=told):
        system.react("act", **given)


def test_erasing_an_agent_makes_no_reactor_act_again(open_any: OpenSystem) -> None:
    system = opened(open_any)
    alice, bob = spawned(system), system.spawn("shop/bob")
    found: list[str] = []

    def act(event: Event, _: Reaction) -> None:
        found.append(event.agent)

    with system.react("act", act, pattern="shop/**") as reactor:
        reactor.wait_for([alice.set("a", 1), bob.set("a", 1)], saved=True)
        erasure = system.erase("shop/alice")
        reactor.wait_for(bob.set("a", 2))
        assert reactor.status in ("live", "catching_up")
    assert sorted(found) == ["shop/alice", "shop/bob", "shop/bob"]
    assert erasure.agents == ("shop/alice",)
