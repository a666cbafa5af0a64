"""Deadlines, sleeps and reminders go by the server's clock, whatever the clock of a host's machine says."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, worker
from duramen.actors import AgentSystem
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
HOUR_NS = 3_600_000_000_000
HALF_AN_HOUR = timedelta(minutes=30)


async def work(self: Any, message: Job) -> str:
    if message.name == "sleep":
        await self.sleep(HALF_AN_HOUR)
    elif message.name == "nap":
        await self.sleep(0.05)
    return f"{message.name} is over"


class Machines:
    """Hosts on machines with clocks of their own, one after another."""

    def __init__(self, open_any: OpenSystem, patch: pytest.MonkeyPatch) -> None:
        self._open = open_any
        self._patch = patch

    def host(self, *, ahead_ns: int = 0, asks: bool = True) -> AgentSystem:
        """A host with a clock that is ahead of the server's; one that does not ask goes by it."""
        real = time.time_ns
        with self._patch.context() as patch:
            patch.setattr(time, "time_ns", lambda: real() + ahead_ns)
            if not asks:
                patch.setattr("duramen.actors.hosts.server_clock.ServerClock.measure", lambda self: None)
            system = self._open(registry=REGISTRY, agents={"worker": worker(work)})
        if not asks:  # nor with a later beat
            self._patch.setattr(system._hosted.hosting.membership.server_clock, "measure", lambda: None)
        return system


@pytest.fixture
def machines(open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(open_any, monkeypatch)


@pytest.mark.parametrize("asks", [True, False])
def test_a_sleep_is_not_over_early_on_a_host_whose_clock_is_ahead(machines: Machines, asks: bool) -> None:
    first = machines.host()
    receipt = spawn_worker(first, work).send(Job("sleep"))
    eventually(partial(waits_until, first, PATH))
    first.close()
    second = machines.host(ahead_ns=HOUR_NS, asks=asks)
    alice = second.agent(PATH)
    if asks:
        for _ in range(2):  # with the first the agent comes into memory, and looks at what is due
            alice.ask(Job("else"))
        assert [each.work for each in alice.unfinished()] == [receipt.seq]
    else:  # the control: by the host's own clock it is
        assert alice.result(receipt) == "sleep is over"


def test_a_sleep_that_began_where_the_clock_was_ahead_ends_in_time_elsewhere(machines: Machines) -> None:
    first = machines.host(ahead_ns=HOUR_NS)
    receipt = spawn_worker(first, work).send(Job("nap"))
    first.close()
    assert machines.host().agent(PATH).result(receipt) == "nap is over"


def test_when_a_sleep_ends_is_the_servers_time(machines: Machines) -> None:
    """The control: a host that goes by its own clock says an hour later."""
    ends: list[datetime] = []
    for asks in (True, False):
        system = machines.host(ahead_ns=HOUR_NS, asks=asks)
        path = f"acme/asks-{asks}"
        system.spawn(path, agent_type="worker").send(Job("sleep"))
        eventually(partial(waits_until, system, path))
        ends += waits_until(system, path)
    late = [end - datetime.now(UTC) > HALF_AN_HOUR + timedelta(minutes=30) for end in ends]
    assert late == [False, True]


def test_a_reminder_is_delivered_in_time_where_the_clock_is_behind(machines: Machines) -> None:
    system = machines.host(ahead_ns=-HOUR_NS)
    alice = spawn_worker(system, work)
    alice.remind("soon", Job("tea"), at=datetime.now(UTC) + timedelta(milliseconds=100))
    eventually(lambda: alice.reminders() == [])
    (due,) = [event for event in system.events(PATH) if event.type == "reminder_due"]
    assert abs(due.time - datetime.now(UTC)) < timedelta(minutes=30)


def waits_until(system: AgentSystem, path: str) -> list[datetime]:
    """When what an agent's work waits for ends."""
    return [each["due"] for work in system.agent(path).unfinished() for each in work.waits_for]
