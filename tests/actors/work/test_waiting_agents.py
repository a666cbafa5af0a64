"""Agents whose handlers wait cost nothing but their logs: nothing of them is left in the process once they rest."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import REGISTRY, Job, worker
from duramen.actors import AgentSystem, Settings
from duramen.actors.work import AgentWork, DurableLoop
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATHS = [f"acme/waiting-{number}" for number in range(60)]


HELD = "acme/held"


def waiting_for_kim(gate: threading.Event) -> Callable[..., Any]:
    """A handler that waits for days; that of one agent is in memory until the gate is open."""

    async def wait_for_kim(self: Any, message: Job) -> Any:
        if str(self.path) == HELD:
            await self.step("gate", gate.wait, 60)
        return await self.wait_for("kim", timeout=3_600)

    return wait_for_kim


def left_of_work() -> int:
    gc.collect()
    return sum(isinstance(each, (AgentWork, DurableLoop)) for each in gc.get_objects())


def live_timers(system: AgentSystem) -> int:
    return sum(not timer.done for timer in list(system._services.timers._due))


@pytest.mark.slow
def test_waiting_agents_hold_no_thread_no_timer_and_no_memory_here(
    open_system: OpenSystem, gate: threading.Event
) -> None:
    agents = {"worker": worker(waiting_for_kim(gate))}
    system = open_system(registry=REGISTRY, agents=agents, settings=Settings(passivate_after=0.05))
    system.spawn("acme/first", agent_type="worker").send(Job())  # what starts with the first one has started
    eventually(lambda: len(system._actors) == 0)
    before, timers, threads = left_of_work(), live_timers(system), threading.active_count()
    receipts = [system.spawn(path, agent_type="worker").send(Job()) for path in PATHS]
    system.spawn(HELD, agent_type="worker").send(Job())
    assert left_of_work() > before, "control: of an agent in memory"
    gate.set()
    eventually(lambda: len(system._actors) == 0)
    eventually(lambda: left_of_work() <= before)
    assert live_timers(system) < timers + len(PATHS) / 2  # some come and go; none is of one agent
    assert threading.active_count() < threads + len(PATHS) / 2
    assert system._services.attempts == {}
    assert len(system.unfinished(limit=100)) == len(PATHS) + 2
    system.agent(PATHS[7]).answer("kim", "yes", work=receipts[7])
    assert system.agent(PATHS[7]).result(receipts[7], timeout=30) == "yes"
