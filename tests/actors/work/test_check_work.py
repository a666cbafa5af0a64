"""What a deploy would do to unfinished work is found out beforehand, and nothing happens by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.work.jobs import PATH, REGISTRY, Job, spawn_worker, types_of, worker
from duramen.actors import AgentSystem
from duramen.events import EventRegistry
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


async def original(self: Any, message: Job) -> Any:
    first = await self.step("first", str.upper, "first")
    self.set("first", first)
    await asyncio.gather(self.step("a", str.upper, "a"), self.step("b", str.upper, "b"))
    return await self.wait_for("approval", about=self.get("first"))


async def renamed_step(self: Any, message: Job) -> Any:
    await self.step("other", str.upper, "first")


async def other_argument(self: Any, message: Job) -> Any:
    await self.step("first", str.upper, "second")


async def other_change(self: Any, message: Job) -> Any:
    first = await self.step("first", str.upper, "first")
    self.set("second", first)
    await self.wait_for("approval")


async def other_order(self: Any, message: Job) -> Any:
    self.set("first", await self.step("first", str.upper, "first"))
    await asyncio.gather(self.step("b", str.upper, "b"), self.step("a", str.upper, "a"))
    await self.wait_for("approval")


async def other_wait(self: Any, message: Job) -> Any:
    self.set("first", await self.step("first", str.upper, "first"))
    await asyncio.gather(self.step("a", str.upper, "a"), self.step("b", str.upper, "b"))
    await self.sleep(1)


async def early_end(self: Any, message: Job) -> Any:
    await self.step("first", str.upper, "first")


@pytest.fixture
def waiting(open_any: OpenSystem) -> AgentSystem:
    """A host whose agent waits for an approval, three steps done."""
    system = open_any(registry=REGISTRY)
    alice = spawn_worker(system, original)
    alice.send(Job())
    eventually(lambda: [item["name"] for each in alice.unfinished() for item in each.waits_for] == ["approval"])
    return system


def check(open_any: OpenSystem, work: Any) -> list[Any]:
    return open_any(registry=REGISTRY, agents={"worker": worker(work)}, host=False).check_work()


def test_the_same_code_has_no_problem_and_nothing_happens(waiting: AgentSystem, open_any: OpenSystem) -> None:
    before = types_of(waiting)
    assert check(open_any, original) == []
    assert types_of(waiting) == before
    waiting.agent(PATH).answer("approval", "yes")
    eventually(lambda: types_of(waiting)[-1] == "work_ended")


@pytest.mark.parametrize("work", [renamed_step, other_argument, other_change, other_order, other_wait, early_end])
def test_code_that_does_something_else_is_told_with_both_sides(
    waiting: AgentSystem, open_any: OpenSystem, work: Any
) -> None:
    before = types_of(waiting)
    [problem] = check(open_any, work)
    assert (problem.agent, problem.work, problem.message_type, problem.kind) == (PATH, 2, "job", "ReplayDiverged")
    assert problem.expected != problem.actual
    assert types_of(waiting) == before


def test_a_missing_class_and_a_missing_message_are_told(waiting: AgentSystem, open_any: OpenSystem) -> None:
    [problem] = open_any(registry=REGISTRY, host=False).check_work()
    assert problem.kind == "UnknownAgentType"
    other = open_any(registry=EventRegistry(), agents={"worker": worker(original)}, host=False)
    [problem] = other.check_work()
    assert problem.kind == "UnknownMessageType"
