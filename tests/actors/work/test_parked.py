"""Parked work is told of: by a hook, a metric, and in what is unfinished; and it stops nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, worker
from duramen.actors import AgentSystem, LifecycleEvent
from duramen.events import WorkParked
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


async def begin(self: Any, message: Job) -> Any:
    await self.wait_for("go")


async def changed(self: Any, message: Job) -> Any:
    return await self.wait_for("other")


def test_hooks_and_the_metric_tell_of_work_that_is_parked_once(open_system: OpenSystem) -> None:
    first = open_system(registry=REGISTRY)
    receipts = [spawn_worker(first, begin).send(Job())]
    receipts.append(first.agent(PATH).send(Job()))
    eventually(lambda: all(each.waits_for for each in first.agent(PATH).unfinished()))
    first.close()
    second = open_system(registry=REGISTRY, agents={"worker": worker(changed)})
    told: list[LifecycleEvent] = []
    second.hooks.on_park(told.append)
    alice = second.agent(PATH)
    alice.answer("go", work=receipts[0])
    with pytest.raises(WorkParked):
        alice.result(receipts[0])
    [event] = eventually(lambda: list(told))
    assert (event.event_type, event.agent, event.agent_type) == ("park", PATH, "worker")
    assert (event.data["work"], event.data["message_type"], event.data["error"]) == (
        receipts[0].seq,
        "job",
        "ReplayDiverged",
    )
    eventually(lambda: second.load().work_parked_total == 1)
    assert [each.parked is None for each in alice.unfinished()] == [False, True]
    assert alice.set("lives", "on").seq > event.seq
    alice.set("lives", "longer")
    assert len(told) == 1
