"""The calls of a system for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from duramen.events import AgentPath, PathPattern
from duramen.projections.hub import Callback
from duramen.projections.subscriptions import Subscription

from .aio import within
from .episodes_aio import AsyncEpisodes
from .history_aio import AsyncHistory
from .messages import spawn_message
from .results import LifecycleResult
from .retention import TrimResult

if TYPE_CHECKING:
    from .handle import AgentHandle
    from .system import AgentSystem

__all__ = ["AsyncSystem"]


class AsyncSystem(AsyncHistory):
    """`await system.aio.spawn(...)`: the calls of `AgentSystem` that wait, for asyncio.

    What reads runs in a thread. A `progress` function is called there. Cancelling a call does not stop what it has
    begun.
    """

    def __init__(self, system: AgentSystem) -> None:
        super().__init__(system)
        self._system = system

    @property
    def episodes(self) -> AsyncEpisodes:
        """Long-term memory: the calls of `system.episodes` that read."""
        return AsyncEpisodes(self._system.episodes)

    async def spawn(self, path: str | AgentPath | None = None, **arguments: Any) -> AgentHandle:
        """As `AgentSystem.spawn`."""
        names = {name: arguments.pop(name, None) for name in ("project_id", "agent_instance_id")}
        handle = self._system.agent(path, **names)
        result: LifecycleResult = await within(handle.ask(spawn_message(**arguments), block=False))
        result.raise_for_failure()
        return handle

    async def subscribe(
        self, pattern: str | PathPattern, callback: Callback | None = None, **arguments: Any
    ) -> Subscription:
        """As `AgentSystem.subscribe`; `async for change in subscription` needs no thread."""
        return await asyncio.to_thread(self._system.subscribe, pattern, callback, **arguments)

    async def trim(self, path: str | AgentPath, **arguments: Any) -> TrimResult:
        """As `AgentSystem.trim`, in a thread of its own."""
        return await asyncio.to_thread(self._system.trim, path, **arguments)
