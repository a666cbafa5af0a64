"""Unfinished work is found again by itself: by the host that starts next, and where a host has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem, Reminder, Settings, UnfinishedWork
from duramen.actors.commands import GetResult, GetStatus
from duramen.events import AskTimeout, NoHost, SystemClosed
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


def test_the_next_host_goes_on_with_work_that_nobody_asks_for(open_any: OpenSystem) -> None:
    done = threading.Event()
    first_begun = threading.Event()
    never = threading.Event()

    def hang() -> None:
        first_begun.set()
        never.wait(10)

    async def before(self: Any, message: Job) -> Any:
        await self.step("pay", hang)

    async def after(self: Any, message: Job) -> Any:
        await self.step("pay", done.set)

    first = open_any(registry=REGISTRY)
    spawn_worker(first, before).send(Job())
    assert first_begun.wait(10)
    give_up(first, PATH)
    second = open_any(registry=REGISTRY, agents={"worker": worker(after)})
    assert done.wait(10)
    eventually(lambda: second.unfinished() == [])
    never.set()


@pytest.mark.slow
def test_a_host_that_closes_leaves_what_waits_to_the_next(open_system: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        await self.sleep(1.0)  # longer than the handler takes to get here
        return "slept"

    first = open_system(registry=REGISTRY)
    alice = spawn_worker(first, work)
    first._services.timers.close(10)  # so that it does not wake the handler, however long this takes
    receipt = alice.send(Job())
    eventually(lambda: any(found.waits_for for found in first.unfinished()))
    first.close()
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    eventually(lambda: second.unfinished() == [])
    assert second.agent(PATH).result(receipt) == "slept"


@pytest.mark.slow
def test_an_agent_that_waits_leaves_memory_and_comes_back_when_it_is_due(open_system: OpenSystem) -> None:
    runs: list[int] = []

    async def work(self: Any, message: Job) -> Any:
        runs.append(1)
        await self.sleep(4.0)  # it has left memory long before that
        return "slept"

    system = open_system(registry=REGISTRY, settings=Settings(passivate_after=0.02))
    receipt = spawn_worker(system, work).send(Job())
    eventually(lambda: len(system._actors) == 0)
    assert len(runs) == 1
    eventually(lambda: system.unfinished() == [])
    assert system.agent(PATH).result(receipt) == "slept"
    assert len(runs) == 2


def test_unfinished_work_of_all_agents_is_listed(open_any: OpenSystem) -> None:
    async def work(self: Any, message: Job) -> Any:
        return await self.wait_for("approval")

    system = open_any(registry=REGISTRY, agents={"worker": worker(work)})
    agents = [system.spawn(f"acme/agent-{number}", agent_type="worker") for number in range(5)]
    for agent in agents:
        agent.send(Job())
    agents[0].pause()
    assert sorted(each.agent for each in system.unfinished()) == [f"acme/agent-{number}" for number in range(5)]
    assert len(system.unfinished(limit=2)) == 2
    for agent in agents:
        agent.answer("approval")
    agents[0].resume()
    eventually(lambda: system.unfinished() == [])


def test_what_a_host_that_drains_gives_up_is_taken_up_without_another_look_from_outside(
    open_any: OpenSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one look comes while the draining host still has the agent; regular ones never come."""
    monkeypatch.setattr("duramen.actors.work.finder._INTERVAL", 86_400.0)
    monkeypatch.setattr("duramen.actors.work.finder._AGAIN", 0.02)
    begun, runs = threading.Event(), list[int]()

    def slow() -> str:
        runs.append(1)
        begun.set()
        gate.wait(60)
        return "slow"

    async def work(self: Any, message: Job) -> Any:
        return [await self.step("slow", slow), await self.step("next", lambda: "next")]

    first = open_any(registry=REGISTRY)
    receipt = spawn_worker(first, work).send(Job())
    second = open_any(registry=REGISTRY, agents={"worker": worker(work)})
    assert begun.wait(30)
    first._hosted.stop_taking()
    second._hosted.hosting.membership.refresh()  # as each beat does
    second._finder._look()
    gate.set()
    assert first.drain(timeout=30)
    eventually(lambda: second.unfinished() == [])  # read from the log: it brings nobody into memory
    assert second.agent(PATH).result(receipt) == ["slow", "next"]
    assert len(runs) == 1  # its result was in the log before the agent left


@pytest.mark.slow
def test_a_handler_that_blocks_holds_up_no_look_at_unfinished_work_and_reminders(
    open_any: OpenSystem, gate: threading.Event
) -> None:
    begun = threading.Event()

    async def work(self: Any, message: Job) -> None:
        if message.name == "block":
            begun.set()
            gate.wait(60)
        await self.wait_for("approval")

    system = open_any(registry=REGISTRY)
    alice = spawn_worker(system, work)
    receipt = alice.send(Job())
    alice.remind("daily", Job(), every=86_400)
    blocked = alice.send(Job("block"))
    assert begun.wait(30)
    with pytest.raises(AskTimeout):  # the control: other reads wait for the handler
        alice.ask(GetStatus(), timeout=0.05)

    async def look() -> tuple[list[UnfinishedWork], list[Reminder]]:
        return await alice.aio.unfinished(), await alice.aio.reminders()

    found = asyncio.run(look())
    assert found == (alice.unfinished(), alice.reminders()) == (system.unfinished(), system.reminders())
    assert [each.work for each in found[0]] == [receipt.seq, blocked.seq]
    assert [each.name for each in found[1]] == ["daily"]
    gate.set()
    system.close()
    with pytest.raises(SystemClosed):
        alice.unfinished()


@pytest.mark.slow
def test_a_host_that_ends_begins_nothing_and_logs_what_still_ends(open_system: OpenSystem) -> None:
    """And does not wait for those elsewhere who wait for the result: they are sent to the next host."""
    ran: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        gate.wait(10)
        return "slow"

    async def work(self: Any, message: Job) -> Any:
        first = await self.step("slow", slow)
        await self.step("next", ran.append, "next", at_most_once=True)
        return first

    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, work).send(Job())
    assert begun.wait(10)
    client = open_system(registry=REGISTRY, host=False)
    reply = client.agent(PATH).ask(GetResult(receipt.seq), block=False)
    eventually(lambda: first._hosted.hosting.router.handling == 1)
    closing = threading.Thread(target=first.close)
    closing.start()
    eventually(lambda: first._hosted.hosting.router.handling == 0)
    gate.set()
    closing.join(20)
    assert not closing.is_alive()
    assert ran == []
    with pytest.raises(NoHost):  # there is none yet
        reply.get(timeout=20)
    second = open_system(registry=REGISTRY, agents={"worker": worker(work)})
    assert client.agent(PATH).result(receipt) == "slow"
    assert ran == ["next"]
    assert "work_done" in types_of(second)
