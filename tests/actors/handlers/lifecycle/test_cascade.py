"""An agent and its sub-agents: known to each other, paused as one, ended together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.events import AgentNotRunning, AgentPaused, InvalidPath
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


def _tree(system: AgentSystem, children: int = 8) -> list[AgentHandle]:
    root = system.spawn("acme/root", initial_state={"sent": 0})
    below = [root.spawn_child(f"c{number}", initial_state={"got": 0}) for number in range(children)]
    deeper = [child.spawn_child("leaf", initial_state={"got": 0}) for child in below[:3]]
    return [root, *below, *deeper]


def _states(tree: list[AgentHandle]) -> dict[str, object]:
    return {agent.path.text: agent.get() for agent in tree}


def test_a_child_is_under_its_parent_and_the_parents_log_names_it(any_system: AgentSystem) -> None:
    root = any_system.spawn("acme/root")
    child = root.spawn_child("helper")
    assert child.path.text == "acme/root/helper"
    named = [event.data["path"] for event in any_system.events("acme/root") if event.type == "child_spawned"]
    assert named == ["acme/root/helper"]
    assert any_system.peek("acme/root/helper").parent == "acme/root"


def test_a_child_of_a_path_that_is_not_under_the_parent_is_refused(system: AgentSystem) -> None:
    from duramen.actors.commands.messages import AdoptChild

    root = system.spawn("acme/root")
    with pytest.raises(InvalidPath):
        root.ask(AdoptChild("acme/other/helper"))
    assert root.status().seq == 1


def test_pausing_with_cascade_pauses_the_whole_tree_under_one_name(any_system: AgentSystem) -> None:
    tree = _tree(any_system)
    result = tree[0].pause("lunch", cascade=True)
    assert result.success
    assert result.data["agents"] == len(tree)
    assert {agent.status().status for agent in tree} == {"paused"}
    assert [agent.checkpoints()[0].checkpoint_id for agent in tree] == ["lunch"] * len(tree)


def test_a_tree_whose_root_is_paused_already_is_left_as_it_is(system: AgentSystem) -> None:
    tree = _tree(system)
    tree[0].pause("alone")
    assert not tree[0].pause("lunch", cascade=True).success
    assert {agent.status().status for agent in tree[1:]} == {"running"}


def test_pausing_without_cascade_leaves_the_children_running(system: AgentSystem) -> None:
    tree = _tree(system)
    tree[0].pause("lunch")
    assert {agent.status().status for agent in tree[1:]} == {"running"}


def test_a_cut_under_constant_writes_is_consistent_and_resume_restores_exactly_it(any_system: AgentSystem) -> None:
    tree = _tree(any_system)
    root, children = tree[0], tree[1:]
    stop, moving = threading.Event(), threading.Event()

    def pass_on() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with suppress(AgentPaused):
                root.set("sent", number)  # first the parent says that it sends,
                children[number % len(children)].set("got", number)  # then a child has it
            if number > 20:
                moving.set()

    writer = threading.Thread(target=pass_on)
    writer.start()
    try:
        assert moving.wait(20)
        assert root.pause("cut", cascade=True).success
        cut = _states(tree)
        assert root.resume("cut", cascade=True).success
        eventually(lambda: root.get("sent") != cut["acme/root"]["sent"])  # type: ignore[index]
    finally:
        stop.set()
        writer.join()
    got = [values["got"] for path, values in cut.items() if path != "acme/root"]  # type: ignore[index]
    assert max(got) <= cut["acme/root"]["sent"]  # type: ignore[index,operator]  # nothing received that was not sent
    assert max(got) >= cut["acme/root"]["sent"] - 1  # type: ignore[index,operator]  # and at most one on its way
    assert _states(tree) != cut
    assert root.resume("cut", cascade=True).data["agents"] == len(tree)
    assert _states(tree) == cut


def test_terminating_ends_the_children_first(any_system: AgentSystem) -> None:
    tree = _tree(any_system)
    result = tree[0].terminate()
    assert result.data["agents"] == len(tree)
    assert {entry.status for entry in any_system.agents()} == {"terminated"}
    ended = {
        agent.path.text: next(e.time for e in any_system.events(agent.path) if e.type == "terminated") for agent in tree
    }
    assert all(time <= ended["acme/root"] for time in ended.values())
    with pytest.raises(AgentNotRunning):
        tree[-1].set("a", 1)


def test_a_child_that_was_told_so_outlives_its_parent(system: AgentSystem) -> None:
    root = system.spawn("acme/root")
    stays = root.spawn_child("stays", outlives_parent=True)
    goes = root.spawn_child("goes")
    root.terminate()
    assert stays.set("still", "here").seq == 2
    assert goes.status().status == "terminated"


def test_terminating_without_cascade_leaves_the_children_running(system: AgentSystem) -> None:
    tree = _tree(system)
    tree[0].terminate(cascade=False)
    assert {agent.status().status for agent in tree[1:]} == {"running"}


def test_a_tree_that_cannot_be_held_in_time_is_released_again(
    open_system: OpenSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = threading.Event()

    class Busy(Agent):
        def on_receive(self, message: object) -> None:
            entered.set()
            gate.wait(20)

    monkeypatch.setattr("duramen.actors.handlers.lifecycle.cascade._TIMEOUT", 0.2)
    system = open_system(agents={"busy": Busy})
    root = system.spawn("acme/root")
    busy = root.spawn_child("busy", agent_type="busy")
    idle = root.spawn_child("idle")
    busy.tell("work")
    assert entered.wait(10)
    with pytest.raises(TimeoutError):
        root.pause("cut", cascade=True)
    assert idle.set("free", True).seq == 2  # not held for ever
    gate.set()
    assert busy.set("free", True).seq == 2
    assert root.status().status == "running"


def test_a_cascade_survives_the_restart_of_the_system(open_any: OpenSystem) -> None:
    first = open_any()
    tree = _tree(first, 4)
    tree[0].pause("night", cascade=True)
    cut = _states(tree)
    first.close()
    again = open_any()
    assert again.agent("acme/root").resume("night", cascade=True).data["agents"] == len(tree)
    assert _states([again.agent(agent.path) for agent in tree]) == cut
