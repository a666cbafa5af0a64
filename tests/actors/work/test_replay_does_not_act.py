"""Whatever looks at the past of work runs no step: replay, checks, consumers, forks, files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem
from duramen.events import MemoryLog
from duramen.projections import WorkingMemory
from takeover import give_up
from waiting import eventually

COPY = "acme/copy"


class Outside:
    """What steps have done, and a step that does not end."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def do(self, name: str) -> str:
        self.done.append(name)
        return name

    async def hang(self, name: str) -> None:
        self.done.append(name)
        await asyncio.Event().wait()


class Watched:
    """A log with work that has ended, work that waits, and work whose step is under way; and somebody who looks."""

    def __init__(self) -> None:
        self.outside, self.handled = Outside(), list[str]()
        self.log = MemoryLog()
        self.owner = AgentSystem.open(log=self.log, registry=REGISTRY)
        alice = spawn_worker(self.owner, self.work)
        alice.result(alice.send(Job("ends")))
        alice.send(Job("waits"))
        eventually(lambda: "wait" in [item["kind"] for each in alice.unfinished() for item in each.waits_for])
        alice.send(Job("hangs"))
        eventually(lambda: self.outside.done.count("hangs") == 1)
        self.agents = {"worker": worker(self.work)}
        self.client = AgentSystem.open(log=self.log, registry=REGISTRY, agents=self.agents, host=False)
        self.before = self.seen()

    async def work(self, agent: Any, message: Job) -> str:
        self.handled.append(message.name)
        await agent.step("first", self.outside.do, "first")
        agent.set(message.name, "begun")
        if message.name == "hangs":
            await agent.step("hang", self.outside.hang, "hangs")
        if message.name == "waits":
            await agent.wait_for("approval")
        return message.name

    def seen(self) -> tuple[list[str], list[str]]:
        return list(self.outside.done), types_of(self.owner)

    def close(self) -> None:
        self.client.close()
        self.owner.close(0.1)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


def replay_all(watched: Watched, _: Path) -> None:
    stages = [state for _, state in watched.client.replay(PATH)]
    assert stages


def look_back(watched: Watched, _: Path) -> None:
    for seq in range(1, len(watched.before[1]) + 1):
        watched.client.state_at(PATH, seq=seq)
    watched.client.diff(PATH, 1, len(watched.before[1]))
    watched.client.blame(PATH, "ends")


def verify(watched: Watched, _: Path) -> None:
    assert watched.client.verify(PATH).ok


def consume(watched: Watched, _: Path) -> None:
    runner = watched.client.attach(WorkingMemory(), name="memory")
    runner.wait_for(watched.owner.agent(PATH).set("seen", 1), timeout=10)
    runner.close()
    watched.before = watched.before[0], [*watched.before[1], "memory_set"]


def fork(watched: Watched, _: Path) -> None:
    forked = watched.owner.fork(PATH, to="acme/fork")
    assert forked.get("ends") == "begun"
    forked.set("lives", True)
    assert forked.unfinished() == []


def export_and_import(watched: Watched, folder: Path) -> None:
    watched.client.export_session(PATH, folder / "session")
    watched.client.import_session(folder / "session", to=COPY)
    copy = watched.owner.agent(COPY)
    copy.set("lives", True)
    assert len(copy.unfinished()) == 2


def check_work(watched: Watched, _: Path) -> None:
    assert watched.client.check_work() == []
    assert watched.handled.count("hangs") == 2  # the handler ran again, and none of its steps


def list_unfinished(watched: Watched, _: Path) -> None:
    assert len(watched.client.unfinished()) == 2
    watched.client.agent(PATH).get()


@pytest.mark.parametrize(
    "act", [replay_all, look_back, verify, consume, fork, export_and_import, check_work, list_unfinished]
)
def test_no_step_is_run_by(watched: Watched, tmp_path: Path, act: Callable[[Watched, Path], None]) -> None:
    act(watched, tmp_path)
    assert watched.seen() == watched.before


def test_a_host_that_takes_the_agent_over_runs_what_was_under_way(watched: Watched) -> None:
    """The control: steps that are run are seen."""
    with AgentSystem.open(log=watched.log, registry=REGISTRY, agents=watched.agents) as second:
        give_up(watched.owner, PATH)
        second.agent(PATH).set("asked", True)
        eventually(lambda: watched.outside.done.count("hangs") == 2)
        second.close(0.1)
    assert watched.outside.done.count("first") == 3
