"""Looking at what a system is opened with, before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from duramen.events import InvalidMessage

from .decider import plain_id
from .services import AgentFactory

__all__ = ["check_kinds", "factories_of"]


def check_kinds(**arguments: tuple[object, type[Any]]) -> None:
    """Raise InvalidMessage for an argument that is neither None nor of its kind."""
    for name, (value, kind) in arguments.items():
        if value is not None and not isinstance(value, kind):
            raise InvalidMessage(f"{name} takes a {kind.__name__}", actual=type(value).__name__)


def factories_of(agents: object) -> dict[str, AgentFactory]:
    """Agent types as text, with what makes agents of them. Raises InvalidMessage."""
    if agents is None:
        return {}
    if not isinstance(agents, Mapping):
        raise InvalidMessage("agents maps agent types to Agent subclasses or functions", actual=type(agents).__name__)
    found: dict[str, AgentFactory] = {}
    for name, factory in cast("Mapping[object, object]", agents).items():
        text = plain_id(name, "an agent type")
        if text is None or not callable(factory):
            raise InvalidMessage(f"agent type {text!r} takes an Agent subclass, or a function that returns an agent")
        found[text] = cast("AgentFactory", factory)
    return found
