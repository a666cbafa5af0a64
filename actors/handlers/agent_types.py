"""The agent types of a system: their factories and their folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from duramen.events import EventRegistry
from duramen.projections.recovery import CustomFold, FoldOf


class AgentCode(Protocol):
    """The part of an agent's class that folding its log needs."""

    def actor_fold(self, registry: EventRegistry) -> CustomFold | None:
        """The fold of the agent's own events; None for a class without one."""
        ...

    def actor_fold_version(self) -> str:
        """The form of the custom state, among those of its agent type; empty for a class without a fold."""
        ...


AgentFactory = Callable[[], AgentCode]
"""Makes the agent object of an activation: a class without arguments, or a function."""


def folds_of(agents: Mapping[str, AgentFactory], registry: EventRegistry) -> FoldOf:
    """The folds of agents' own events, by agent type; each is made once for this call."""
    made: dict[str | None, CustomFold | None] = {}

    def fold_of(agent_type: str | None) -> CustomFold | None:
        factory = None if agent_type is None else agents.get(agent_type)
        if agent_type not in made:
            made[agent_type] = None if factory is None else factory().actor_fold(registry)
        return made[agent_type]

    return fold_of
