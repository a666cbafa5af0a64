"""A durable message, and agents whose handler is a function of the test."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem
from duramen.events import EventRegistry, message_type

__all__ = ["PATH", "REGISTRY", "Job", "spawn_worker", "types_of", "worker"]

PATH = "acme/alice"
REGISTRY = EventRegistry()


@message_type("job", durable=True, version=3, registry=REGISTRY)
@frozen
class Job:
    name: str = "x"


class _Worker(Agent):
    work: Any = None

    async def on_receive(self, message: Any) -> Any:
        return await type(self).work(self, message)


def worker(work: Any) -> type[Agent]:
    """An agent's class whose handler is `work(agent, message)`."""
    return type("Worker", (_Worker,), {"work": staticmethod(work)})


def spawn_worker(system: AgentSystem, work: Any) -> AgentHandle:
    system.register("worker", worker(work))
    return system.spawn(PATH, agent_type="worker")


def types_of(system: AgentSystem) -> list[str]:
    return [event.type for event in system.events(PATH)]
