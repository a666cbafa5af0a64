"""The handle of an agent: its synchronous calls, and `aio` for their asyncio twins."""

from __future__ import annotations

from contextlib import suppress
from typing import Unpack

from duramen.events import AgentPath, Unconfirmed

from ...commands import AdoptChild, SpawnArguments, spawn_message
from .aio import AsyncAgentHandle
from .calls import AgentCalls
from .lifecycle import require_started


class AgentHandle(AgentCalls):
    """Sends messages to one agent, which may be in memory or not, in this process or in another.

    Cheap, immutable, thread-safe. Every call blocks until the reply arrives, at most `TIMEOUT` seconds, and raises
    typed errors: AskTimeout, AgentNotFound, AgentNotRunning, AgentPaused, Fenced, Unavailable, OutcomeUnknown and
    those that the call names. A mutation that has returned its receipt is as durable as `receipt.durability` says.
    """

    __slots__ = ()

    @property
    def aio(self) -> AsyncAgentHandle:
        """The same calls for asyncio: each returns an awaitable and does not block the loop."""
        return AsyncAgentHandle(self._system, self._path)

    def spawn_child(
        self,
        name: str,
        *,
        outlives_parent: bool = False,
        exist_ok: bool = False,
        **arguments: Unpack[SpawnArguments],
    ) -> AgentHandle:
        """Spawn a sub-agent under this one's path, with the arguments of `AgentSystem.spawn`.

        The parent's log records the child first. With `outlives_parent=True` the child goes on when the parent ends.
        """
        child = AgentPath.parse(self._path).child(name).text
        message = spawn_message(self._path, **arguments)
        self._system.check_spawn(child, message)  # before the parent records the child
        with suppress(Unconfirmed):  # committed; the spawn's confirmation covers it
            self.ask(AdoptChild(child, bool(outlives_parent), durability=message.durability))
        handle = AgentHandle(self._system, child)
        require_started(handle.ask(message), exist_ok)
        return handle
