"""Unfinished work goes on without anybody asking for it: hosts look for it, and take up what no living host has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem
from duramen.actors.api import composition as composition_module
from duramen.actors.work import finder as finder_module
from duramen.events import MemoryLog, Receipt
from duramen.events.log import EventLog
from duramen.projections.state import NEVER
from takeover import give_up
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


def index_of(log: EventLog) -> dict[str, int]:
    """All agents with unfinished work, and when each is due."""
    return {
        each.agent: each.due_ms
        for partition in range(log.partitions)
        for each in log.hosts.unfinished(partition, 1_000, until_ms=1 << 52).agents
    }


def log_of(system: AgentSystem) -> EventLog:
    return system._services.log


def ended(system: AgentSystem, path: str = PATH) -> bool:
    return [event.type for event in system.events(path)][-1] == "work_ended"


def in_memory(system: AgentSystem) -> set[str]:
    return {mailbox.path for page in system._actors.pages() for mailbox in page}


async def sleep_a_little(self: Any, message: Job) -> str:
    await self.sleep(0.2)
    return "awake"


def fall_asleep(system: AgentSystem) -> Receipt:
    """Send a message whose handler sleeps a little, to a host that does not wake it: its timers have ended."""
    alice = spawn_worker(system, sleep_a_little)
    system._services.timers.close(10)
    receipt = alice.send(Job())
    eventually(lambda: types_of(system)[-1] == "work_begun")
    return receipt


async def wait_for_kim(self: Any, message: Job) -> Any:
    return await self.wait_for("kim")


# -- the index ---------------------------------------------------------------------------------------------------------


def test_the_index_says_when_work_is_due_and_forgets_it_when_it_has_ended(open_any: OpenSystem) -> None:
    gate = threading.Event()

    async def work(self: Any, message: Job) -> None:
        await self.step("step", gate.wait, 10)
        await self.wait_for("kim", timeout=1_000)
        await self.wait_for("kim")

    system = open_any(registry=REGISTRY)
    alice = spawn_worker(system, work)
    assert index_of(log_of(system)) == {}
    receipt = alice.send(Job())
    eventually(lambda: types_of(system)[-1] == "work_begun")
    assert index_of(log_of(system)) == {PATH: 0}
    gate.set()
    eventually(lambda: [each.waits_for[0]["kind"] for each in alice.unfinished()] == ["wait"])
    [due] = [each.waits_for[0]["due"] for each in alice.unfinished()]
    eventually(lambda: index_of(log_of(system)) == {PATH: -(-int(due.timestamp() * 1_000_000) // 1_000)})
    alice.answer("kim")
    eventually(lambda: index_of(log_of(system)) == {PATH: NEVER})
    alice.answer("kim")
    alice.result(receipt)
    assert index_of(log_of(system)) == {}


def test_paused_agents_are_never_due_and_terminated_ones_have_nothing_unfinished() -> None:
    log = MemoryLog()
    with AgentSystem.open(log=log, registry=REGISTRY) as opened:
        alice = spawn_worker(opened, wait_for_kim)
        alice.pause("here")
        alice.resume("here")
        assert index_of(log) == {}
        alice.send(Job())
        eventually(lambda: types_of(opened)[-1] == "work_begun")
        alice.pause("here")
        alice.answer("kim")
        assert index_of(log) == {PATH: NEVER}
        alice.resume("here")
        eventually(lambda: ended(opened))
        assert index_of(log) == {}
        alice.send(Job())
        assert index_of(log) != {}
        alice.terminate()
        assert index_of(log) == {}


# -- taking up ---------------------------------------------------------------------------------------------------------


def test_a_host_that_starts_takes_up_what_was_left(open_any: OpenSystem) -> None:
    begun, gate = threading.Event(), threading.Event()

    async def hang(self: Any, message: Job) -> Any:
        begun.set()
        return await self.step("step", gate.wait, 10)

    async def work(self: Any, message: Job) -> Any:
        return await self.step("step", lambda _: "done", 10)

    first = open_any(registry=REGISTRY)
    receipt = spawn_worker(first, hang).send(Job())
    assert begun.wait(10)
    closing = threading.Thread(target=first.close)
    closing.start()
    gate.set()  # as late as if the process had ended: nothing of it is logged any more
    closing.join(20)
    second = open_any(registry=REGISTRY, agents={"worker": worker(work)})
    eventually(lambda: ended(second))
    assert second.agent(PATH).result(receipt) in ("done", True)


def test_a_deadline_that_has_passed_meanwhile_is_seen_by_the_next_host(open_any: OpenSystem) -> None:
    first = open_any(registry=REGISTRY)
    receipt = fall_asleep(first)
    first.close()
    second = open_any(registry=REGISTRY, agents={"worker": worker(sleep_a_little)})
    eventually(lambda: ended(second))
    assert second.agent(PATH).result(receipt) == "awake"


def test_a_host_takes_up_the_work_of_one_that_has_ended(open_any: OpenSystem) -> None:
    first = open_any(registry=REGISTRY)
    second = open_any(registry=REGISTRY, agents={"worker": worker(sleep_a_little)})
    fall_asleep(first)
    first.close()
    second._hosted.hosting.membership.refresh()  # as its beat does
    eventually(lambda: ended(second))


def test_what_a_living_host_has_is_left_to_it(open_system: OpenSystem) -> None:
    begun, gate = threading.Event(), threading.Event()

    async def hang(self: Any, message: Job) -> Any:
        begun.set()
        await self.step("step", gate.wait, 10)
        return "first"

    first = open_system(registry=REGISTRY)
    receipt = spawn_worker(first, hang).send(Job())
    assert begun.wait(10)
    second = open_system(registry=REGISTRY, agents={"worker": worker(hang)})
    second._finder.look()
    eventually(lambda: not second._finder._is_looking)
    assert in_memory(second) == set()
    gate.set()
    assert first.agent(PATH).result(receipt) == "first"
    assert types_of(first).count("work_taken_up") == 0


def test_work_of_a_type_that_is_registered_later_goes_on_then(open_system: OpenSystem) -> None:
    first = open_system(registry=REGISTRY)
    fall_asleep(first)
    first.close()
    second = open_system(registry=REGISTRY)
    eventually(lambda: second._finder._refused)
    assert not ended(second)
    second.register("worker", worker(sleep_a_little))
    eventually(lambda: ended(second))


def test_a_host_without_the_class_that_has_the_agent_leaves_its_work_to_others(open_system: OpenSystem) -> None:
    """It may have the agent where that was spawned without the class: whoever did could not know that it needs one."""

    async def work(self: Any, message: Job) -> Any:
        return await self.wait_for("approval")

    agents = {"worker": worker(work)}
    open_system(registry=REGISTRY).spawn(PATH, agent_type="worker")
    first = open_system(registry=REGISTRY, agents=agents)
    give_up(first, PATH)
    receipt = first.agent(PATH).send(Job())
    eventually(lambda: first.agent(PATH).unfinished()[0].waits_for)
    first.close()
    without = open_system(registry=REGISTRY)
    alice = without.agent(PATH)
    for name in ("approval", "looked", "looked again"):
        alice.answer(name, "yes")
    assert in_memory(without) == {PATH}
    assert not {"work_ended", "work_parked", "work_taken_up"} & set(types_of(without))
    without.close()
    last = open_system(registry=REGISTRY, agents=agents)
    assert last.agent(PATH).result(receipt) == "yes"


def test_clients_and_draining_hosts_take_nothing_up(open_system: OpenSystem) -> None:
    first = open_system(registry=REGISTRY)
    fall_asleep(first)
    first.close()
    agents = {"worker": worker(sleep_a_little)}
    client = open_system(registry=REGISTRY, agents=agents, host=False)
    draining = open_system(registry=REGISTRY)
    draining.drain(0.1)
    draining.register("worker", agents["worker"])
    client._finder.look()
    draining._finder.look()
    last = open_system(registry=REGISTRY, agents=agents)
    eventually(lambda: ended(last))
    assert in_memory(client) == in_memory(draining) == set()


@pytest.mark.slow
def test_all_work_is_taken_up_a_bounded_number_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder_module, "_PAGE", 7)
    log = MemoryLog(partitions=4)
    agents = {"worker": worker(sleep_a_little)}
    paths = [f"acme/worker-{number}" for number in range(200)]
    with AgentSystem.open(log=log, registry=REGISTRY, agents=agents) as first:
        for path in paths:
            first.spawn(path, agent_type="worker").send(Job())
        eventually(lambda: all(due > 0 for due in index_of(log).values()))
    under_way: set[str] = set()
    counts: list[int] = []

    class Watched(finder_module.WorkFinder):
        def _send(self, agent: str) -> None:
            under_way.add(agent)
            counts.append(len(under_way))
            super()._send(agent)

        def _brought(self, agent: str, error: BaseException | None) -> None:
            under_way.discard(agent)
            super()._brought(agent, error)

    monkeypatch.setattr(composition_module, "WorkFinder", Watched)
    with AgentSystem.open(log=log, registry=REGISTRY, agents=agents) as second:
        eventually(lambda: not index_of(log))
        assert all(ended(second, path) for path in paths)
    assert counts
    assert max(counts) <= 64
