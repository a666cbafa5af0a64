"""The calls of a system for asyncio."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol
from uuid import UUID

from duramen.events import AgentPath, PathPattern, agent_path
from duramen.projections import Subscription
from duramen.projections.subscriptions import Callback

from ...commands import LifecycleResult, TrimResult, spawn_message
from ..episode_store import EpisodeStore
from ..handles import AsyncAgentHandle, MessageSender
from ..history import History
from .episodes import AsyncEpisodes
from .history import AsyncHistory

__all__ = ["AsyncSystem", "SystemCalls"]


class SystemCalls(MessageSender, Protocol):
    """The calls of `AgentSystem` that have twins here."""

    @property
    def episodes(self) -> EpisodeStore: ...

    def subscribe(
        self, pattern: str | PathPattern, callback: Callback | None = ..., **arguments: Any
    ) -> Subscription: ...

    def trim(self, path: str | AgentPath, **arguments: Any) -> TrimResult: ...


class AsyncSystem(AsyncHistory):
    """`await system.aio.spawn(...)`: the calls of `AgentSystem` that wait, for asyncio.

    What reads runs in a thread. A `progress` function is called there. Cancelling a call does not stop what it has
    begun.
    """

    def __init__(self, history: History, system: Any) -> None:
        super().__init__(history)
        self._system: SystemCalls = system

    @property
    def episodes(self) -> AsyncEpisodes:
        """Long-term memory: the calls of `system.episodes` that read."""
        return AsyncEpisodes(self._system.episodes)

    def agent(
        self,
        path: str | AgentPath | None = None,
        *,
        project_id: str | UUID | None = None,
        agent_instance_id: str | UUID | None = None,
    ) -> AsyncAgentHandle:
        """As `AgentSystem.agent`, with the calls of asyncio. Waits for nothing."""
        if path is None:
            path = AgentPath.of(project_id or "", agent_instance_id or "")
        return AsyncAgentHandle(self._system, agent_path(path).text)

    async def spawn(self, path: str | AgentPath | None = None, **arguments: Any) -> AsyncAgentHandle:
        """As `AgentSystem.spawn`."""
        names = {name: arguments.pop(name, None) for name in ("project_id", "agent_instance_id")}
        handle = self.agent(path, **names)
        result: LifecycleResult = await handle.ask(spawn_message(**arguments))
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
