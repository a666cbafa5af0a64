"""A command of an agent's own that is repeated gives its first reply, and its handler does not run again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.events import CommandConflict, Limits, ReplyRefused, Trimmed, message_type

OpenSystem = Callable[..., AgentSystem]


@message_type("stored_reply_order")
@frozen
class Order:
    writes: int
    reply: Any = None


class Shop(Agent):
    calls: ClassVar[list[Any]]

    def on_receive(self, message: Any) -> Any:
        self.calls.append(message)
        for number in range(message.writes):
            self.append("orders", number)
        return REPLIES.get(message.reply, message.reply) if type(message.reply) is str else message.reply


class AsyncShop(Shop):
    async def on_receive(self, message: Any) -> Any:
        return super().on_receive(message)


PLAIN = [None, True, 7, 1.5, "text", b"bytes", datetime(2026, 1, 2, tzinfo=UTC), [1, {"a": [None]}], {}, {"reply": 1}]
REPLIES: dict[Any, Any] = {"an object": object(), "a tuple": (1, 2), "large": "x" * 300_000}


def spawn(open_system: OpenSystem, kind: type[Shop] = Shop, **options: Any) -> tuple[AgentSystem, AgentHandle]:
    kind.calls = []
    system = open_system(agents={"shop": kind}, **options)
    return system, system.spawn("p/a", agent_type="shop")


def elsewhere(open_system: OpenSystem, kind: type[Shop] = Shop, **options: Any) -> AgentHandle:
    return open_system(agents={"shop": kind}, **options).agent("p/a")


@pytest.mark.parametrize("kind", [Shop, AsyncShop])
@pytest.mark.parametrize("writes", [0, 1, 3])
@pytest.mark.parametrize("reply", PLAIN, ids=repr)
def test_a_repeated_command_gives_the_first_reply_here_and_elsewhere(
    open_system: OpenSystem, reply: Any, writes: int, kind: type[Shop]
) -> None:
    system, agent = spawn(open_system, kind)
    order = Order(writes, reply)
    first = agent.ask(order, command_id="o-1")
    seq = agent.status().seq

    assert first == reply
    for place in (agent, elsewhere(open_system, kind)):
        again = place.ask(order, command_id="o-1")
        assert again == reply
        assert type(again) is type(reply)
    assert kind.calls == [order]
    assert agent.status().seq == seq
    assert agent.get() == ({"orders": list(range(writes))} if writes else {})
    assert system.verify("p/a").ok
    assert system.state_at("p/a").memory == agent.get()


def test_it_does_on_servers_too(open_any: OpenSystem) -> None:
    system, agent = spawn(open_any)
    assert agent.ask(Order(2, "two"), command_id="o-1") == "two"
    assert agent.ask(Order(0, "none"), command_id="o-2") == "none"
    assert agent.set("after", 1).seq == 5
    again = elsewhere(open_any)
    assert [again.ask(Order(2, "two"), command_id="o-1"), again.ask(Order(0, "none"), command_id="o-2")] == [
        "two",
        "none",
    ]
    assert system.verify("p/a").ok
    assert [event.command_id for event in system.events("p/a")] == [None, "o-1", "o-1", "o-2", None]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("writes", [0, 2])
def test_a_reply_that_cannot_be_stored_is_refused_when_it_is_asked_for_again(
    open_system: OpenSystem, reply: str, writes: int
) -> None:
    system, agent = spawn(open_system)
    order = Order(writes, reply)
    assert agent.ask(order, command_id="o-1") is REPLIES[reply]
    with pytest.raises(ReplyRefused) as caught:
        agent.ask(order, command_id="o-1")
    assert caught.value.seq == agent.status().seq
    assert caught.value.actual == type(REPLIES[reply]).__name__
    assert Shop.calls == [order]
    assert system.verify("p/a").ok


def test_another_payload_is_still_refused(open_system: OpenSystem) -> None:
    _, agent = spawn(open_system)
    agent.ask(Order(0, "a"), command_id="o-1")
    with pytest.raises(CommandConflict):
        agent.ask(Order(0, "b"), command_id="o-1")


def test_without_a_command_id_a_message_is_handled_each_time_and_its_reply_not_stored(open_system: OpenSystem) -> None:
    system, agent = spawn(open_system)
    for _ in range(2):
        assert agent.ask(Order(1, "again")) == "again"
    assert len(Shop.calls) == 2
    assert [event.metadata for event in system.events("p/a")] == [None, None, None]


def test_a_reply_whose_events_are_trimmed_is_told_to_be_so(open_system: OpenSystem) -> None:
    system, agent = spawn(open_system)
    agent.ask(Order(1, "a"), command_id="o-1")
    agent.set("after", 1)
    system.trim("p/a", keep_events=1)
    with pytest.raises(Trimmed):
        agent.ask(Order(1, "a"), command_id="o-1")
    assert len(Shop.calls) == 1


def test_the_state_and_snapshots_after_a_stored_reply_are_those_of_the_log(open_any: OpenSystem) -> None:
    system, agent = spawn(open_any)
    for number in range(5):
        agent.ask(Order(number % 3, number), command_id=f"o-{number}")
    agent.pause("lunch")
    agent.resume()
    assert system.verify("p/a").ok
    again = elsewhere(open_any)
    assert again.get() == agent.get()
    assert again.ask(Order(2, 2), command_id="o-2") == 2


def test_an_agent_that_remembers_no_command_ids_stores_replies_all_the_same(open_system: OpenSystem) -> None:
    system, agent = spawn(open_system, limits=Limits(commands_remembered=1))
    for number in range(3):
        assert agent.ask(Order(1, number), command_id=f"o-{number}") == number
    assert agent.ask(Order(1, 2), command_id="o-2") == 2
    assert system.verify("p/a").ok
