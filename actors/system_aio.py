"""The calls of a system for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duramen.events import AgentPath

from .aio import within
from .messages import spawn_message
from .results import LifecycleResult

if TYPE_CHECKING:
    from .handle import AgentHandle
    from .system import AgentSystem

__all__ = ["AsyncSystem"]


class AsyncSystem:
    """`await system.aio.spawn(...)`: the calls of `AgentSystem` that wait, for asyncio."""

    def __init__(self, system: AgentSystem) -> None:
        self._system = system

    async def spawn(self, path: str | AgentPath | None = None, **arguments: Any) -> AgentHandle:
        """As `AgentSystem.spawn`."""
        names = {name: arguments.pop(name, None) for name in ("project_id", "agent_instance_id")}
        handle = self._system.agent(path, **names)
        result: LifecycleResult = await within(handle.ask(spawn_message(**arguments), block=False))
        result.raise_for_failure()
        return handle
