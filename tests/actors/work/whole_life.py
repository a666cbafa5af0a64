"""A life of work that writes every type of event about it; golden logs and the reference are made of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentSystem, Retry
from duramen.events import Event, EventRegistry, WorkParked, message_type
from waiting import eventually

__all__ = ["Errand", "Runner", "question_cancelled", "work_for_life"]


@frozen
class Errand:
    what: str


class Runner(Agent):
    """Its code is changed while it waits, and changed back."""

    changed = False
    ordered = 0
    gate = threading.Event()

    async def on_receive(self, message: Any) -> Any:
        if message.what == "nothing":
            return None
        await self.step("order", self._order, retry=Retry(times=2, backoff=0.0))
        self.set("ordered", message.what)
        await self.step("deliver", self.gate.wait, 10)
        waits = [asyncio.create_task(self.wait_for(name)) for name in ("yes", "no")]
        _, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in others:
            wait.cancel()
        await asyncio.wait(others)
        return await self.wait_for("another" if self.changed else "approval", about={"what": message.what})

    def _order(self) -> None:
        kind = type(self)
        kind.ordered += 1
        if kind.ordered == 1:
            raise ConnectionError("lost")


def work_for_life(open_system: Callable[[dict[str, Any]], AgentSystem], path: str, registry: EventRegistry) -> None:
    """Let an agent that is spawned there do an errand. `open_system` takes its agent types."""
    errand: Any = message_type("errand", durable=True, registry=registry)(Errand)
    fresh: Any = type("Runner", (Runner,), {"ordered": 0, "gate": threading.Event()})
    changed = type("Runner", (Runner,), {"changed": True})
    with open_system({"runner": fresh}) as system:
        agent = system.spawn(path, session_id="s-w", agent_type="runner")
        agent.remind("late", errand("nothing"), every=3_600.0)
        agent.remind("tea", errand("nothing"), at=datetime(2024, 1, 1, tzinfo=UTC))

        def types() -> list[str]:
            return [event.type for event in system.events(path)]

        eventually(lambda: types()[-1] == "work_ended")
        agent.remove_reminder("late")
        receipt = agent.send(errand("flowers"))
        eventually(lambda: types()[-2:] == ["memory_set", "work_begun"])
        agent.pause("night")
        fresh.gate.set()
        eventually(lambda: types()[-1] == "work_done")
        agent.resume("night")
        eventually(lambda: types()[-2:] == ["work_begun", "work_begun"])
        agent.answer("yes", 1)
        eventually(lambda: types()[-2:] == ["work_begun", "work_given_up"])
    with open_system({"runner": changed}) as system:
        agent = system.agent(path)
        agent.answer("approval", "by kim", work=receipt)
        try:
            agent.result(receipt)
        except WorkParked:
            pass
        else:
            raise AssertionError("the changed code was not noticed")
    with open_system({"runner": fresh}) as system:
        agent = system.agent(path)
        agent.retry(receipt)
        assert agent.result(receipt) == "by kim"
        agent.terminate()


@frozen
class Question:
    of: str


class Asker(Agent):
    """Asks itself what nobody answers."""

    async def on_receive(self, message: Any) -> Any:
        if message.of == "itself":
            return await self.wait_for("nobody")
        return await self.ask(self.path, type(message)("itself"))


def question_cancelled(system: AgentSystem, path: str, registry: EventRegistry) -> list[Event]:
    """The events of an agent whose work is cancelled while it waits for other work."""
    question: Any = message_type("question", durable=True, registry=registry)(Question)
    system.register("asker", Asker)
    agent = system.spawn(path, agent_type="asker")
    receipt = agent.send(question("another"))
    eventually(lambda: len(agent.unfinished()) == 2)
    agent.cancel(receipt)
    eventually(lambda: [event.type for event in system.events(path)].count("work_cancel_sent") == 1)
    return list(system.events(path))
