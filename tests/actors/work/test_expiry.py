"""Agents that expire erase themselves after so long without a change, whichever host finds them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from duramen.actors import AgentSystem, GetStatus
from duramen.actors.work import expiry as expiry_module
from duramen.actors.work import finder as finder_module
from duramen.events import AgentNotFound, InvalidMessage, Unavailable
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/guest"
SHORT = 0.05


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder_module, "_INTERVAL", 0.1)


def stop_looking(system: AgentSystem) -> None:
    """From now on no agent is found to have expired, until `look_again`."""
    system._finder.stop()
    eventually(lambda: not system._finder._is_looking, what="the end of the last look")


def look_again(system: AgentSystem) -> None:
    system._finder._is_stopped = False
    system._finder.look()


def is_gone(system: AgentSystem, path: str = PATH) -> bool:
    try:
        system.agent(path).ask(GetStatus())
    except AgentNotFound:
        return True
    return False


def paths_of(system: AgentSystem) -> list[str]:
    return sorted(entry.agent for entry in system.agents())


def test_an_agent_erases_itself_and_one_without_an_expiry_stays(open_any: OpenSystem) -> None:
    system = open_any()
    seen: list[str] = []
    with system.subscribe(PATH, lambda change: seen.append(change.event.type)):
        stop_looking(system)
        system.spawn(PATH, expires_after=timedelta(seconds=SHORT)).set("n", 1)
        system.spawn("acme/stays").set("n", 1)
        eventually(lambda: seen == ["spawned"], what="the subscription has read it")
        look_again(system)
        eventually(lambda: is_gone(system))
        eventually(lambda: seen[-1:] == ["erased"], what="the subscription is told")
    assert [kind for kind in seen if kind != "expired"] == ["spawned", "erased"]
    assert paths_of(system) == ["acme/stays"]
    assert system.verify().ok
    assert system.spawn(PATH).status().seq == 1
    assert system.unfinished() == []


def test_an_agent_that_changes_stays_until_it_does_not(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH, expires_after=3_600)
    agent.set("n", 1)
    partition = any_system.log.partition_of(PATH)

    def due() -> int:
        [found] = any_system.log.hosts.unfinished(partition, 10, until_ms=1 << 52).agents
        return found.due_ms

    first = due()
    eventually(lambda: agent.set("n", 2) and due() > first)
    assert agent.get("n") == 2
    agent.terminate(consolidate_to_episodic=False)
    any_system.spawn(PATH)  # this session does not expire
    assert any_system.log.hosts.unfinished(partition, 10, until_ms=1 << 52).agents == []


def test_a_paused_or_terminated_one_expires_too(any_system: AgentSystem) -> None:
    stop_looking(any_system)
    paused = any_system.spawn("acme/paused", expires_after=SHORT)
    paused.pause(when_paused="stash")
    any_system.spawn("acme/ended", expires_after=SHORT).terminate(consolidate_to_episodic=False)
    look_again(any_system)
    eventually(lambda: paths_of(any_system) == [])


def test_a_change_below_it_keeps_it(any_system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    expire = expiry_module._expire

    def look(services: Any, agent: str, since: int) -> None:
        expire(services, agent, since)
        looks.append(agent)

    monkeypatch.setattr(expiry_module, "_expire", look)
    stop_looking(any_system)
    parent = any_system.spawn(PATH, expires_after=SHORT)
    services, now = any_system._services, any_system._services.now
    services.now = lambda: now() + 3_600_000_000
    child = parent.spawn_child("child")
    parent.status()
    services.now = now
    parent.set("n", 1)
    look_again(any_system)
    eventually(lambda: len(looks) > 2)
    assert paths_of(any_system) == [PATH, f"{PATH}/child"]
    child.set("n", 1)
    eventually(lambda: paths_of(any_system) == [])


def test_another_host_erases_what_a_host_has_left(open_any: OpenSystem) -> None:
    first = open_any()
    first.spawn(PATH, expires_after=SHORT)
    first.close()
    second = open_any()
    eventually(lambda: paths_of(second) == [])


def test_what_was_begun_is_finished_and_a_spawn_meanwhile_is_a_new_agent(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_any()

    def refuse(self: Any, path: Any) -> Any:
        raise Unavailable("not now")

    erase = AgentSystem.erase
    monkeypatch.setattr(AgentSystem, "erase", refuse)
    system.spawn(PATH, initial_state={"old": 1}, expires_after=SHORT)
    system.spawn("acme/other", expires_after=SHORT)
    eventually(lambda: [entry.status for entry in system.agents()] == ["terminated", "terminated"])
    monkeypatch.setattr(AgentSystem, "erase", erase)
    assert system.spawn(PATH, initial_state={"new": 1}).get() == {"new": 1}
    assert [event.type for event in system.events(PATH)] == ["spawned"]
    eventually(lambda: paths_of(system) == [PATH])


def test_a_fork_of_it_does_not_expire(any_system: AgentSystem) -> None:
    any_system.spawn(PATH, initial_state={"n": 1}, expires_after=3_600)
    any_system.fork(PATH, to="acme/fork").set("n", 2)
    hosts, partition = any_system.log.hosts, any_system.log.partition_of(PATH)
    assert [found.agent for found in hosts.unfinished(partition, 10, until_ms=1 << 52).agents] == [PATH]


@pytest.mark.parametrize("wrong", [0, -1, "1", True, float("nan"), 1e12])
def test_a_life_is_a_positive_span_of_time(any_system: AgentSystem, wrong: Any) -> None:
    with pytest.raises(InvalidMessage):
        any_system.spawn(PATH, expires_after=wrong)
    assert paths_of(any_system) == []
