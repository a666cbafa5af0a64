"""What callers hold: the synchronous calls of one agent, and the way to their asyncio twins."""

from __future__ import annotations

from typing import Any

from duramen.events import AgentPath

from ...commands import AdoptChild, LifecycleResult, spawn_message
from .aio import AsyncAgentHandle
from .calls import TIMEOUT, AgentCalls

__all__ = ["TIMEOUT", "AgentHandle"]


class AgentHandle(AgentCalls):
    """Sends messages to one agent; the agent itself may be in memory or not, here or in another process.

    Cheap, immutable, usable from any thread. Every call blocks until the reply is there, at most `TIMEOUT` seconds,
    and raises typed errors: AskTimeout, AgentNotFound, AgentNotRunning, AgentPaused, Fenced, Unavailable,
    OutcomeUnknown and what each call names. A mutation that has returned its receipt is as durable as
    `receipt.durability` says.
    """

    __slots__ = ()

    @property
    def aio(self) -> AsyncAgentHandle:
        """The same calls for asyncio: each returns an awaitable and never blocks the loop."""
        return AsyncAgentHandle(self._system, self._path)

    def spawn_child(self, name: str, **arguments: Any) -> AgentHandle:
        """Spawn a sub-agent under this one's path, with the arguments of `AgentSystem.spawn`.

        The parent's log says so first. `outlives_parent=True` lets it live on when the parent's session ends.
        """
        child = AgentPath.parse(self._path).child(name)
        outlives = bool(arguments.pop("outlives_parent", False))
        self._system.check_spawn(child.text, arguments)  # before the parent says that there is a child
        self.ask(AdoptChild(child.text, outlives))
        handle = AgentHandle(self._system, child.text)
        result: LifecycleResult = handle.ask(spawn_message(parent=self._path, **arguments))
        result.raise_for_failure()
        return handle
