"""An agent's `apply` as a projection, so that laws of projections can be checked on agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from duramen.events import Event, EventRegistry, InvalidMessage
from duramen.events.codec import RawEvent, to_microseconds
from duramen.events.model import OWN_TYPES, SPAWNED
from duramen.projections import Projection
from duramen.projections.verification import Subject

from ..agent import Agent


class _AgentFold(Projection[Any]):
    """The state of the agent's own events, folded as in recovery: each session begins with the initial state."""

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
        """The state unchanged: an agent's state has to be plain data."""
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
    """The fold of a fresh agent. Raises InvalidMessage if the factory makes no agent."""
    agent = factory()
    if not isinstance(agent, Agent):
        raise InvalidMessage(f"{type(agent).__qualname__} is no Agent; subclass duramen.actors.Agent")
    return _AgentFold(cast("Agent", agent), registry)


def agent_subject(factory: Callable[[], Agent], registry: EventRegistry) -> Subject:
    """The fold of an agent as a subject of laws."""
    kind = type(factory())
    name = str(getattr(factory, "__qualname__", kind.__qualname__))
    return Subject(name, factory, registry, agent_fold, kind.__mro__[:-1])
