"""An answer that will not do is refused before it is logged, by the function that the wait has for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem
from duramen.actors.commands import Answer
from duramen.actors.dispatch import Envelope
from duramen.actors.hosts import Forwarded, Repeated
from duramen.events import AnswerRefused, InvalidMessage, WaitExpired
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


def small(value: Any) -> bool:
    if value["amount"] < 0:
        raise ValueError("an amount is positive")
    value["amount"] -= 1  # of a copy
    return bool(value["amount"] < 100)


async def pay(self: Any, message: Job) -> Any:
    value = await self.wait_for("amount", accepts=small)
    self.set("amount", value)
    return value


@pytest.fixture
def system(open_system: OpenSystem) -> AgentSystem:
    return open_system(registry=REGISTRY)


def waits(alice: Any) -> bool:
    return any(each.waits_for for each in alice.unfinished())


def test_an_answer_that_will_not_do_is_refused_and_the_wait_goes_on(open_any: OpenSystem) -> None:
    system = open_any(registry=REGISTRY)
    alice = spawn_worker(system, pay)
    receipt = alice.send(Job())
    eventually(lambda: waits(alice))
    with pytest.raises(AnswerRefused, match="it is not accepted"):
        alice.answer("amount", {"amount": 500})
    with pytest.raises(AnswerRefused, match="ValueError: an amount is positive"):
        alice.answer("amount", {"amount": -1}, work=receipt, command_id="a-1")
    assert "work_answered" not in types_of(system)
    assert alice.answer("amount", {"amount": 5}, work=receipt).seq > 0
    assert alice.result(receipt) == {"amount": 5}


def test_answers_beside_it_and_without_a_check_are_taken_as_ever(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.wait_for("amount")

    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    eventually(lambda: waits(alice))
    alice.set("a", 1)
    alice.answer("amount", {"amount": 500})
    assert alice.result(receipt) == {"amount": 500}


def test_a_command_id_that_is_known_is_answered_and_not_checked_again(system: AgentSystem) -> None:
    async def twice(self: Any, message: Job) -> Any:
        return [await self.wait_for("n", accepts=lambda n: n == want) for want in (1, 2)]

    alice = spawn_worker(system, twice)
    receipt = alice.send(Job())
    eventually(lambda: waits(alice))
    first = alice.answer("n", 1, command_id="first")
    eventually(
        lambda: [each["seq"] for work in alice.unfinished() for each in work.waits_for if each["seq"] > first.seq]
    )
    assert alice.answer("n", 1, command_id="first").seq == first.seq
    alice.answer("n", 2)
    assert alice.result(receipt) == [1, 2]


def test_it_is_checked_after_a_crash_and_for_other_hosts(open_server: OpenSystem) -> None:
    first = open_server(registry=REGISTRY)
    receipt = spawn_worker(first, pay).send(Job())
    eventually(lambda: waits(first.agent(PATH)))
    first.close()
    host = open_server(registry=REGISTRY, agents={"worker": worker(pay)})
    client = open_server(registry=REGISTRY, host=False)
    with pytest.raises(AnswerRefused, match="not accepted"):
        client.agent(PATH).answer("amount", {"amount": 500})
    with pytest.raises(AnswerRefused, match="not accepted"):
        host.agent(PATH).answer("amount", {"amount": 501})
    client.agent(PATH).answer("amount", {"amount": 5})
    assert client.agent(PATH).result(receipt) == {"amount": 5}


def test_a_paused_agent_checks_answers_too(system: AgentSystem) -> None:
    alice = spawn_worker(system, pay)
    receipt = alice.send(Job())
    eventually(lambda: waits(alice))
    alice.pause("lunch")
    with pytest.raises(AnswerRefused, match="not accepted"):
        alice.answer("amount", {"amount": 500})
    alice.answer("amount", {"amount": 5})
    alice.resume("lunch")
    assert alice.result(receipt) == {"amount": 5}


def test_an_early_answer_that_will_not_do_is_dropped(system: AgentSystem, gate: threading.Event) -> None:
    async def late(self: Any, message: Job) -> Any:
        await self.step("first", gate.wait, 10)
        return await self.wait_for("amount", accepts=small, timeout=60)

    alice = spawn_worker(system, late)
    receipt = alice.send(Job())
    for amount in (500, -1, 5, 6):
        alice.answer("amount", {"amount": amount})
    gate.set()
    assert alice.result(receipt) == {"amount": 5}


def test_a_wait_that_refuses_still_expires(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        with pytest.raises(WaitExpired):
            await self.wait_for("amount", accepts=lambda _: False, timeout=0.05)
        return "expired"

    alice = spawn_worker(system, work)
    assert alice.ask(Job()) == "expired"


def test_what_checks_is_a_function(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.wait_for("amount", accepts=3)

    with pytest.raises(InvalidMessage, match="accepts is a function"):
        spawn_worker(system, work).ask(Job())


@pytest.mark.parametrize("kind", [Forwarded, Repeated])
def test_an_answer_of_another_host_is_checked_also_where_it_is_sent_again(
    system: AgentSystem, kind: type[Forwarded]
) -> None:
    alice = spawn_worker(system, pay)
    receipt = alice.send(Job())
    eventually(lambda: waits(alice))

    def send(number: int, amount: int) -> Any:
        answer = Answer("amount", {"amount": amount}, receipt.seq)
        envelope = Envelope(kind(answer, "another-host", number, receipt.seq))
        system._actors.send(PATH, envelope)
        return envelope.get(timeout=20)

    with pytest.raises(AnswerRefused, match="it is not accepted"):
        send(1, 500)
    assert send(2, 5).seq > receipt.seq
    assert alice.result(receipt) == {"amount": 5}
    if kind is Repeated:
        assert send(2, 5).seq > receipt.seq, "its mark is in the log: nothing is checked, or logged again"
    assert types_of(system).count("work_answered") == 1


def read_most(system: AgentSystem) -> Any:
    return system.agent("acme/limits").get("max")


def read_most_in_a_loop(system: AgentSystem) -> Any:
    async def read() -> Any:
        return await system.agent("acme/limits").aio.get("max")

    return asyncio.run(read())


@pytest.mark.parametrize("read", [read_most, read_most_in_a_loop])
def test_a_check_that_asks_an_agent_refuses_the_answer_before_it_is_logged(system: AgentSystem, read: Any) -> None:
    system.spawn("acme/limits").set("max", 10)

    async def ask(self: Any, message: Job) -> Any:
        return await self.wait_for("n", accepts=lambda n: n < read(system))

    alice = spawn_worker(system, ask)
    alice.send(Job())
    eventually(lambda: waits(alice))
    with pytest.raises(AnswerRefused, match="LoopBlocked: this function may not ask an agent"):
        alice.answer("n", 5)
    assert "work_answered" not in types_of(system)
    assert read(system) == 10, "control: else it may be asked"


async def never_awaited(value: Any) -> bool:
    return False


def exits(value: Any) -> bool:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("check", "told"), [(lambda value: never_awaited(value), "make it a plain function"), (exits, "SystemExit")]
)
def test_a_check_that_decides_nothing_lets_no_answer_pass(system: AgentSystem, check: Any, told: str) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.wait_for("amount", accepts=check)

    alice = spawn_worker(system, work)
    alice.send(Job())
    eventually(lambda: waits(alice))
    with pytest.raises(AnswerRefused, match=told):
        alice.answer("amount", 5)
    assert waits(alice)


def test_a_coroutine_function_is_no_check(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.wait_for("amount", accepts=never_awaited)

    with pytest.raises(InvalidMessage, match="accepts is a plain function"):
        spawn_worker(system, work).ask(Job())


def test_a_time_that_is_none_is_refused_by_its_name(system: AgentSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.wait_for("amount", timeout=-1)

    with pytest.raises(InvalidMessage, match="timeout takes"):
        spawn_worker(system, work).ask(Job())
