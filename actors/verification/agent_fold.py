"""An agent's own `apply` as a projection, so that the laws of projections are laws of agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from duramen.events import Event, EventRegistry, InvalidMessage
from duramen.events.codec import RawEvent, to_microseconds
from duramen.events.model import OWN_TYPES, SPAWNED
from duramen.projections import Projection
from duramen.projections.verification import Subject

from ..agent import Agent

__all__ = ["agent_fold", "agent_subject"]


class _AgentFold(Projection[Any]):
    """The state of the agent's own events, as recovery folds it: it begins anew with each session."""

    def __init__(self, agent: Agent, registry: EventRegistry) -> None:
        self._fold = agent.actor_fold(registry)

    def initial(self) -> Any:
        return None if self._fold is None else self._fold.initial()

    def apply(self, state: Any, event: Event) -> Any:
        if self._fold is None:
            return None
        if event.type == SPAWNED:
            return self._fold.initial()
        return state if event.type in OWN_TYPES else self._fold.apply(state, _raw(event))

    def dump(self, state: Any) -> Any:
        """As it is: an agent's state goes into snapshots, so it has to be plain data."""
        return state


def _raw(event: Event) -> RawEvent:
    time = to_microseconds(event.time)
    return [
        event.type,
        event.version,
        int(event.granularity),
        time,
        event.data,
        event.session_id,
        None,
        None,
        None,
        None,
    ]


def agent_fold(factory: Callable[[], Any], registry: EventRegistry) -> Projection[Any]:
    """A fresh agent's fold. Raises InvalidMessage if the factory makes no agent."""
    agent = factory()
    if not isinstance(agent, Agent):
        raise InvalidMessage(f"{type(agent).__qualname__} is no Agent; subclass duramen.actors.Agent")
    return _AgentFold(agent, registry)


def agent_subject(factory: Callable[[], Agent], registry: EventRegistry) -> Subject:
    """The fold of an agent, to check laws on."""
    kind = type(factory())
    name = str(getattr(factory, "__qualname__", kind.__qualname__))
    return Subject(name, factory, registry, agent_fold, kind.__mro__[:-1])
