"""The types of agents that a system knows: what each is made by, and how its own events fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from duramen.events import EventRegistry
from duramen.projections.recovery import CustomFold, FoldOf

__all__ = ["AgentCode", "AgentFactory", "folds_of"]


class AgentCode(Protocol):
    """What whoever folds an agent's log needs of its class."""

    def custom_fold(self, registry: EventRegistry) -> CustomFold | None:
        """How its own events fold; None for a class that has none."""
        ...

    def custom_version(self) -> str:
        """Names the form of what they make."""
        ...


AgentFactory = Callable[[], AgentCode]
"""Makes an agent's object anew at each activation; a class without arguments is one."""


def folds_of(agents: Mapping[str, AgentFactory], registry: EventRegistry) -> FoldOf:
    """How the own events of agents fold here; made anew for each call, since factories are the user's code."""
    made: dict[str | None, CustomFold | None] = {}

    def fold_of(agent_type: str | None) -> CustomFold | None:
        factory = None if agent_type is None else agents.get(agent_type)
        if agent_type not in made:
            made[agent_type] = None if factory is None else factory().custom_fold(registry)
        return made[agent_type]

    return fold_of
