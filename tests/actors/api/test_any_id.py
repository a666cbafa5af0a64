"""Agents are named by ids of other systems, whatever characters these have."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from duramen.actors import AgentSystem
from duramen.events import AgentPath, PropertyPath
from following import LastSeqs
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
IDS = [
    "user:42@example",
    "al ice",
    "a/b",
    "a~b",
    "*",
    "**",
    "..",
    "日本語",
    "\u202ex",
    "e\u0301",
    "-x",
    "{a}",
    "\U0001f600",
]


def test_an_agent_of_any_id_does_what_every_agent_does(open_any: OpenSystem) -> None:
    system = open_any()
    for name in IDS:
        path = AgentPath.of("acme", name)
        agent = system.spawn(path)
        agent.set("n", name)
        child = agent.spawn_child(name)
        assert child.path.segments == ("acme", name, name)
        agent.pause("c", cascade=True)
        assert agent.resume("c", cascade=True).data["agents"] == 2
        assert system.agent(project_id="acme", agent_instance_id=name).get("n") == name
        assert system.state_at(path, 2).memory == {"n": name}
        assert [entry.agent for entry in system.agents(f"{path}/")] == [child.path.text]
    assert sorted(AgentPath.parse(entry.agent).name for entry in system.agents()) == sorted(IDS * 2)
    assert system.verify().ok


def test_subscriptions_and_projections_follow_agents_of_any_id(open_any: OpenSystem) -> None:
    system = open_any()
    seen: list[tuple[str, Any]] = []
    own: list[str] = []
    with (
        system.subscribe("acme/*/n", lambda change: seen.append((change.agent, change.event.data["value"]))),
        system.subscribe("acme/~*/**", lambda change: own.append(change.agent)),
        system.attach(LastSeqs(), name="ids", agents="acme/*") as runner,
    ):
        for name in IDS:
            receipt = system.spawn(AgentPath.of("acme", name)).set("n", name)
            runner.wait_for(receipt, timeout=20)
        paths = [AgentPath.of("acme", name).text for name in IDS]
        eventually(lambda: len(seen) == len(IDS) and len(own) == 2)
        assert (sorted(seen), own) == (sorted(zip(paths, IDS, strict=True)), ["acme/~*"] * 2)
        assert sorted(runner.state) == sorted(paths)


def test_agents_of_any_id_are_forked_exported_and_imported(any_system: AgentSystem) -> None:
    for name in IDS:
        path, fork, copy = (AgentPath.of(project, name) for project in ("acme", "fork", "copy"))
        any_system.spawn(path).set(PropertyPath.of(name), 1)
        any_system.fork(path, to=fork)
        file = BytesIO()
        any_system.export_session(path, file)
        file.seek(0)
        any_system.import_session(file, to=copy)
        assert any_system.agent(fork).get() == any_system.agent(copy).get() == {name: 1}
    assert any_system.verify().ok
