"""The calls of an agent for asyncio: the same names and arguments, and each returns an awaitable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from duramen.events import AgentPath, AskTimeout, Receipt

from ...commands import AdoptChild, Batch, LifecycleResult, spawn_message
from .batch import BatchBuilder
from .calls import TIMEOUT, AgentCalls, MessageSender

__all__ = ["AsyncAgentHandle", "AsyncBatch", "await_reply"]

P = ParamSpec("P")
R = TypeVar("R")


async def await_reply(reply: Awaitable[R], timeout: float | None = TIMEOUT) -> R:
    """Await a reply for at most `timeout` seconds. Raises AskTimeout, or the handler's own error."""
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await reply
    except TimeoutError:
        if not limit.expired():
            raise  # the handler's own
        raise AskTimeout(
            f"no reply within {timeout} s; the command may still be carried out: ask again with the same command id",
            expected=timeout,
        ) from None


class _Deferred(AgentCalls):
    """A handle whose calls return the future of the reply."""

    __slots__ = ()

    def _send(self, message: object, block: bool, timeout: float | None, command_id: str | None, room: float) -> Any:
        return super()._send(message, False, timeout, command_id, 0.0)  # waiting for room would block the loop


def _twin(
    call: Callable[Concatenate[AgentCalls, P], R],
) -> Callable[Concatenate[AsyncAgentHandle, P], Coroutine[Any, Any, R]]:
    """Make the awaitable twin of a call of `AgentHandle`, with its arguments, result and documentation."""

    @wraps(call)
    async def twin(self: AsyncAgentHandle, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await await_reply(cast("Awaitable[R]", call(self.deferred, *args, **kwargs)))

    return twin


class AsyncAgentHandle:
    """`AgentHandle` for asyncio. Cancelling a call does not cancel the command."""

    __slots__ = ("_system", "deferred")

    def __init__(self, system: MessageSender, path: str) -> None:
        self._system = system
        self.deferred = _Deferred(system, path)

    def __repr__(self) -> str:
        return f"<AsyncAgentHandle {self.path}>"

    @property
    def aio(self) -> AsyncAgentHandle:
        """The handle itself, so that `handle.aio` works on both kinds of handles."""
        return self

    @property
    def path(self) -> AgentPath:
        """The agent path."""
        return self.deferred.path

    async def ask(self, message: object, *, timeout: float | None = TIMEOUT, command_id: str | None = None) -> Any:
        """Send a message and await its reply."""
        return await await_reply(self.deferred.ask(message, block=False, command_id=command_id), timeout)

    async def tell(self, message: object, *, command_id: str | None = None, room: float = 0.0) -> None:
        """Send a message and do not wait for a reply. Raises MailboxFull after `room` seconds, and SystemClosed."""
        if room > 0:
            await asyncio.to_thread(self.deferred.tell, message, command_id=command_id, room=room)
        else:
            self.deferred.tell(message, command_id=command_id)

    get = _twin(AgentCalls.get)
    keys = _twin(AgentCalls.keys)
    set = _twin(AgentCalls.set)
    delete = _twin(AgentCalls.delete)
    append = _twin(AgentCalls.append)
    merge = _twin(AgentCalls.merge)
    record = _twin(AgentCalls.record)
    set_granularity = _twin(AgentCalls.set_granularity)
    set_retention = _twin(AgentCalls.set_retention)
    pause = _twin(AgentCalls.pause)
    resume = _twin(AgentCalls.resume)
    terminate = _twin(AgentCalls.terminate)
    restart = _twin(AgentCalls.restart)
    checkpoints = _twin(AgentCalls.checkpoints)
    status = _twin(AgentCalls.status)

    def batch(self, *, command_id: str | None = None) -> AsyncBatch:
        """As `AgentHandle.batch`, in an `async with` block."""
        return AsyncBatch(self.deferred, command_id)

    async def spawn_child(self, name: str, **arguments: Any) -> AsyncAgentHandle:
        """As `AgentHandle.spawn_child`."""
        child = self.path.child(name)
        outlives = bool(arguments.pop("outlives_parent", False))
        self._system.check_spawn(child.text, arguments)
        await self.ask(AdoptChild(child.text, outlives))
        spawned = AsyncAgentHandle(self._system, child.text)
        result: LifecycleResult = await spawned.ask(spawn_message(parent=self.path.text, **arguments))
        result.raise_for_failure()
        return spawned


class AsyncBatch(BatchBuilder):
    """`BatchBuilder` for asyncio, used in an `async with` block."""

    def __init__(self, deferred: _Deferred, command_id: str | None) -> None:
        super().__init__(lambda operations: deferred.ask(Batch(operations, command_id)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        sent, self._receipt = self._receipt, None
        if sent is not None:
            self._receipt = await await_reply(cast("Awaitable[Receipt]", sent))
