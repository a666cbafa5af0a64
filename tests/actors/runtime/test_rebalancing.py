"""When a host joins, the idle trees whose place it is move to it; others stay where they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem
from duramen.actors.dispatch import Mailbox
from duramen.actors.hosts.hosting import place
from duramen.actors.runtime import rebalancing
from duramen.actors.runtime.active import Runtime
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATHS = [f"acme/a{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalancing, "_IDLE_SECONDS", 0.0)


def owners(system: AgentSystem) -> dict[str, str]:
    return {path: system.log.hosts.owner(path)[0].host for path in PATHS}


def look(system: AgentSystem) -> None:
    """What a host does every second, after it has read the list of hosts with its beat."""
    system._hosted.hosting.membership.refresh()
    system._hosted.release_trees()


@pytest.mark.slow
def test_idle_trees_move_to_a_host_that_joins_and_no_others_do(open_any: OpenSystem) -> None:
    first = open_any(placement="spread")
    look(first)
    for path in PATHS:
        first.spawn(path).spawn_child("sub")
    second = open_any(placement="spread")
    theirs = {path for path in PATHS if place(path, [first.host, second.host]) == second.host}
    assert 0 < len(theirs) < len(PATHS)
    look(first)
    eventually(lambda: {path for path, host in owners(first).items() if not host} == theirs)
    assert {path for path, host in owners(first).items() if host == first.host} == set(PATHS) - theirs
    for path in PATHS:
        first.agent(path).set("n", 1)
        first.agent(f"{path}/sub").set("n", 1)
    assert {path for path, host in owners(first).items() if host == second.host} == theirs
    assert first.load().agents_in_memory >= 2 * (len(PATHS) - len(theirs))


@pytest.mark.slow
def test_a_busy_tree_stays_and_moves_once_it_is_idle(open_any: OpenSystem, gate: threading.Event) -> None:
    entered = threading.Event()

    class Busy(Agent):
        def on_receive(self, message: Any) -> None:
            entered.set()
            gate.wait()

    first = open_any(placement="spread", agents={"busy": Busy})
    look(first)
    for path in PATHS:
        first.spawn(path, agent_type="busy")
    replies = [first.agent(path).ask("wait", block=False) for path in PATHS]
    assert entered.wait(10)
    second = open_any(placement="spread", agents={"busy": Busy})
    look(first)
    eventually(lambda: not first._hosted._is_rebalancing)
    assert set(owners(first).values()) == {first.host}
    gate.set()
    for reply in replies:
        reply.get(timeout=10)
    look(first)
    theirs = {path for path in PATHS if place(path, [first.host, second.host]) == second.host}
    eventually(lambda: {path for path, host in owners(first).items() if not host} == theirs)


@pytest.mark.slow
def test_a_tree_moves_though_one_of_its_agents_has_left_memory_meanwhile(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, ended, left = rebalancing.Rebalancing._release, threading.Event(), list[object]()

    def passivate_and_release(self: rebalancing.Rebalancing, trees: Sequence[Sequence[Mailbox]]) -> None:
        if not ended.is_set():
            for gone, *_ in trees:
                runner = gone.runner
                assert isinstance(runner, Runtime) and self._actors.remove_if_idle(gone)
                runner.release_resources()
            left.extend(mailbox.path for tree in trees for mailbox in tree if mailbox.runner is not None)
            release(self, trees)
            left.append([mailbox.path for tree in trees for mailbox in tree if mailbox.runner is not None])
            ended.set()

    monkeypatch.setattr(rebalancing.Rebalancing, "_release", passivate_and_release)
    first = open_any(placement="spread")
    look(first)
    for path in PATHS:
        first.spawn(path).spawn_child("sub")
    open_any(placement="spread")
    look(first)
    assert ended.wait(30)
    *before, after = left
    assert before and after == []


def test_nothing_moves_to_a_host_without_the_class_nor_where_trees_live_as_they_were_asked(
    open_any: OpenSystem,
) -> None:
    class Own(Agent):
        pass

    spread, local = open_any(placement="spread", agents={"own": Own}), open_any()
    look(spread)
    for path in PATHS:
        spread.spawn(path, agent_type="own")
    local.spawn("acme/local")
    open_any(placement="spread")
    for system in (spread, local):
        look(system)
    eventually(lambda: not spread._hosted._is_rebalancing and not local._hosted._is_rebalancing)
    assert set(owners(spread).values()) == {spread.host}
    assert local.log.hosts.owner("acme/local")[0].host == local.host
