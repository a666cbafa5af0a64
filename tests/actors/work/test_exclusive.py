"""While an exclusive durable message is handled, its agent handles no other one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from actors.work.jobs import PATH, spawn_worker, types_of, worker
from duramen.actors import AgentSystem, Get, Set
from duramen.actors.dispatch import Envelope
from duramen.actors.runtime.active.stash import Stash
from duramen.events import CallCycle, EventRegistry, InvalidMessage, message_type
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()


@message_type("alone", durable=True, exclusive=True, registry=REGISTRY)
@frozen
class Alone:
    pass


@message_type("beside", durable=True, registry=REGISTRY)
@frozen
class Beside:
    name: str = "beside"


async def work(self: Any, message: Any) -> Any:
    if isinstance(message, Alone):
        before = self.get("count", 0)
        await self.wait_for("go")
        self.set("count", before + 1)
        return self.get("count")
    if isinstance(message, Beside):
        self.append("order", "begun")
        await self.step("step", str, message.name)
        self.append("order", "ended")
        return None
    self.set("count", self.get("count", 0) + 100)
    return self.get("count")


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    return open_system(registry=REGISTRY)


def begun(alice: Any, message: str) -> None:
    """Wait until work on a message waits for something."""
    eventually(lambda: any(each.message_type == message and each.waits_for for each in alice.unfinished()))


def test_nothing_changes_between_the_stretches_of_an_exclusive_handler(system: AgentSystem) -> None:
    alice = spawn_worker(system, work)
    receipt = alice.send(Alone())
    begun(alice, "alone")
    others = [alice.ask("add", block=False), alice.ask(Set("count", 50), block=False)]
    assert alice.get("count", None) is None
    assert not any(other.done for other in others)
    alice.answer("go", work=receipt)
    assert alice.result(receipt) == 1
    assert others[0].get(timeout=10) == 101
    assert others[1].get(timeout=10).seq > 0
    assert alice.get("count") == 50


def test_what_comes_while_the_message_before_it_is_stashed_waits_too(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = spawn_worker(system, work)
    receipt = alice.send(Alone())
    begun(alice, "alone")
    add, later = Stash.add, list[Any]()

    def add_and_send(stash: Stash, envelope: Envelope) -> None:
        add(stash, envelope)
        if not later:  # in the core, whose turn has counted the messages that it looks at
            later.extend((alice.ask(Set("count", 50), block=False), alice.ask("add", block=False)))

    monkeypatch.setattr(Stash, "add", add_and_send)
    first = alice.ask("add", block=False)
    eventually(lambda: later)
    assert alice.get("count", None) is None
    assert not any(reply.done for reply in (first, *later))
    alice.answer("go", work=receipt)
    assert alice.result(receipt) == 1
    assert first.get(timeout=10) == 101
    assert later[0].get(timeout=10).seq > 0
    assert later[1].get(timeout=10) == 150


def test_what_comes_with_an_exclusive_message_waits_for_its_end_too(system: AgentSystem) -> None:
    alice = spawn_worker(system, work)
    with system._services.dispatcher._core:  # so that one turn has all of them
        before = alice.ask(Set("count", 5), block=False)
        ended = alice.ask(Alone(), block=False)
        behind = alice.ask(Set("count", 50), block=False)
        read = alice.ask(Get("count"), block=False)
    assert before.get(timeout=10).seq > 0
    assert read.get(timeout=10) == 5
    begun(alice, "alone")
    assert alice.get("count") == 5
    assert not behind.done
    alice.answer("go")
    assert ended.get(timeout=10) == 6
    assert behind.get(timeout=10).seq > 0
    assert alice.get("count") == 50


def test_without_it_other_messages_come_between(system: AgentSystem) -> None:
    """The negative control: what the handler has read is not what it overwrites."""

    async def beside(self: Any, message: Any) -> Any:
        if isinstance(message, Beside):
            before = self.get("count", 0)
            await self.wait_for("go")
            self.set("count", before + 1)
        else:
            self.set("count", 100)

    alice = spawn_worker(system, beside)
    receipt = alice.send(Beside())
    begun(alice, "beside")
    alice.ask("add")
    alice.answer("go", work=receipt)
    alice.result(receipt)
    assert alice.get("count") == 1


def test_other_work_is_accepted_meanwhile_and_goes_on_after_it(system: AgentSystem, gate: threading.Event) -> None:
    async def slow(self: Any, message: Any) -> Any:
        if isinstance(message, Beside):
            self.append("order", f"{message.name} begins")
            await self.step("step", gate.wait, 10)
            self.append("order", f"{message.name} ends")
        else:
            await self.wait_for("go")
            self.append("order", "alone ends")

    alice = spawn_worker(system, slow)
    first = alice.send(Beside("first"))
    begun(alice, "beside")
    alone = alice.send(Alone())
    begun(alice, "alone")
    second = alice.send(Beside("second"))
    gate.set()
    eventually(lambda: "work_done" in types_of(system))  # the step's result is logged, and waits
    assert alice.get("order") == ["first begins"]
    alice.answer("go")
    for receipt in (alone, first, second):
        alice.result(receipt)
    assert alice.get("order")[:2] == ["first begins", "alone ends"]
    assert sorted(alice.get("order")[2:]) == ["first ends", "second begins", "second ends"]


@pytest.mark.slow
def test_it_is_exclusive_after_a_crash_and_from_other_hosts_too(open_server: OpenSystem) -> None:
    first = open_server(registry=REGISTRY)
    receipt = spawn_worker(first, work).send(Alone())
    begun(first.agent(PATH), "alone")
    first.close()
    host = open_server(registry=REGISTRY, agents={"worker": worker(work)})
    client = open_server(registry=REGISTRY, host=False)
    waits = [host.agent(PATH).ask("add", block=False), client.agent(PATH).ask(Set("count", 7), block=False)]
    asked = host.agent(PATH)
    assert [each.message_type for each in asked.unfinished()] == ["alone"]
    asked.answer("go", work=receipt)
    assert asked.result(receipt) == 1
    assert waits[0].get(timeout=10) in (101, 107)
    waits[1].get(timeout=10)


def test_it_can_be_paused_cancelled_and_ended(system: AgentSystem) -> None:
    alice = spawn_worker(system, work)
    receipt = alice.send(Alone())
    begun(alice, "alone")
    alice.pause("lunch")
    alice.resume("lunch")
    other = alice.ask("add", block=False)
    alice.cancel(receipt)
    assert other.get(timeout=10) == 100
    alice.send(Alone())
    alice.terminate()
    assert alice.unfinished() == []


def test_it_cannot_wait_for_its_own_agent(system: AgentSystem) -> None:
    async def itself(self: Any, message: Any) -> Any:
        return await self.ask(PATH, Set("a", 1))

    alice = spawn_worker(system, itself)
    with pytest.raises(CallCycle, match="would wait for itself"):
        alice.ask(Alone())


def test_only_durable_messages_are_exclusive() -> None:
    with pytest.raises(InvalidMessage, match="only durable messages are exclusive"):
        message_type("plain", exclusive=True, registry=EventRegistry())(frozen(type("Plain", (), {})))
