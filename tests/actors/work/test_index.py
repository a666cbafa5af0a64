"""`verify` compares the index of unfinished work with the logs: what it lacks would not be found after a crash."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker
from contracts.places import ServerPlace
from duramen.actors import AgentSystem
from duramen.events import MemoryLog
from duramen.events.log.event_log import EventLog
from duramen.projections import VerificationReport
from duramen.projections.integrity.damage import Kind
from waiting import eventually


async def wait(self: Any, message: Job) -> Any:
    return await self.wait_for("approval", timeout=timedelta(days=2))


def begin(log: EventLog) -> AgentSystem:
    """An agent whose handler waits, one with a reminder, and one whose work has ended."""
    system = AgentSystem.open(log=log, registry=REGISTRY)
    alice = spawn_worker(system, wait)
    alice.send(Job())
    system.spawn("acme/bob", agent_type="worker").remind("nightly", Job(), every=timedelta(days=1))
    carol = system.spawn("acme/carol", agent_type="worker")
    carol.answer("approval", 1)
    carol.ask(Job())
    eventually(lambda: alice.unfinished()[0].waits_for)
    return system


def problems(report: VerificationReport) -> list[tuple[str, Kind]]:
    return [(problem.agent, problem.kind) for problem in report.problems]


def test_an_index_that_fits_the_logs_is_sound(any_system: AgentSystem) -> None:
    with begin(any_system._log) as system:
        assert system.verify().ok
        system.agent(PATH).pause("lunch")
        assert system.verify().ok
        system.agent(PATH).terminate()
        assert system.verify().ok


def test_what_the_index_lacks_has_late_or_has_without_a_reason_is_found() -> None:
    log = MemoryLog()
    with begin(log) as system:
        index = log._storage.parts[log.partition_of(PATH)].unfinished
        due = index.pop(PATH)
        assert problems(system.verify()) == [(PATH, Kind.UNFINISHED)]
        index[PATH] = due + 1
        assert problems(system.verify()) == [(PATH, Kind.UNFINISHED)]
        index[PATH] = due - 1  # a look too soon does no harm
        assert system.verify().ok
        log._storage.parts[log.partition_of("acme/carol")].unfinished["acme/carol"] = 0
        assert problems(system.verify()) == [("acme/carol", Kind.UNFINISHED)]
        log._storage.parts[log.partition_of("acme/bob")].unfinished.clear()
        found = problems(system.verify())
        assert ("acme/bob", Kind.UNFINISHED) in found


@pytest.mark.parametrize("name", ["valkey", "redis"])
def test_an_index_that_a_server_has_lost_is_found(request: pytest.FixtureRequest, name: str) -> None:
    place = ServerPlace(request.getfixturevalue(f"{name}_url"))
    log = place.open()
    with begin(log) as system:
        assert place.client.delete(place.keys.unfinished(log.partition_of(PATH))) == 1
        assert (PATH, Kind.UNFINISHED) in problems(system.verify())
    place.close()
