"""The memory and the lifecycle of long-running LLM agents: an event-sourced actor system on Redis and Valkey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duramen.actors import Agent, AgentSystem

    __version__: str

__all__ = ["Agent", "AgentSystem"]

if not TYPE_CHECKING:  # else type checkers would believe that the module has every name

    def __getattr__(name: str) -> Any:
        """Import a name when it is asked for: a process that needs `duramen.events` alone loads nothing else."""
        if name == "__version__":
            from importlib.metadata import version

            return version("duramen")
        if name in __all__:
            from duramen import actors

            return getattr(actors, name)
        raise AttributeError(f"module 'duramen' has no attribute {name!r}")
