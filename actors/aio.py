"""The calls of an agent for asyncio: the same names and arguments, each returning an awaitable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from duramen.events import AgentPath, AskTimeout, Receipt

from .batch import BatchBuilder
from .handle import TIMEOUT, AgentHandle
from .messages import AdoptChild, Batch

if TYPE_CHECKING:
    from .system import AgentSystem

__all__ = ["AsyncAgentHandle", "AsyncBatch", "within"]

P = ParamSpec("P")
R = TypeVar("R")


async def within(reply: Awaitable[R], timeout: float | None = TIMEOUT) -> R:
    """Await a reply for at most `timeout` seconds. Raises AskTimeout."""
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


class _Deferred(AgentHandle):
    """A handle whose calls give the future of the reply in place of the reply."""

    __slots__ = ()

    def _send(self, message: object, block: bool, timeout: float | None, command_id: str | None, room: float) -> Any:
        return super()._send(message, False, timeout, command_id, 0.0)  # waiting for room would block the loop


def _twin(
    call: Callable[Concatenate[AgentHandle, P], R],
) -> Callable[Concatenate[AsyncAgentHandle, P], Coroutine[Any, Any, R]]:
    """The awaitable twin of a call of `AgentHandle`, with its arguments, result and documentation."""

    @wraps(call)
    async def twin(self: AsyncAgentHandle, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await within(cast("Awaitable[R]", call(self.deferred, *args, **kwargs)))

    return twin


class AsyncAgentHandle:
    """`AgentHandle` for asyncio. Cancelling a call does not take the command back."""

    __slots__ = ("_system", "deferred")

    def __init__(self, system: AgentSystem, path: str) -> None:
        self._system = system
        self.deferred = _Deferred(system, path)

    def __repr__(self) -> str:
        return f"<AsyncAgentHandle {self.path}>"

    @property
    def path(self) -> AgentPath:
        """The agent path."""
        return self.deferred.path

    async def ask(self, message: object, *, timeout: float | None = TIMEOUT, command_id: str | None = None) -> Any:
        """Send a message and await its reply."""
        return await within(self.deferred.ask(message, block=False, command_id=command_id), timeout)

    async def tell(self, message: object, *, command_id: str | None = None, room: float = 0.0) -> None:
        """Send a message and do not wait for a reply; for room in the mailbox at most `room` seconds."""
        if room > 0:
            await asyncio.to_thread(self.deferred.tell, message, command_id=command_id, room=room)
        else:
            self.deferred.tell(message, command_id=command_id)

    get = _twin(AgentHandle.get)
    keys = _twin(AgentHandle.keys)
    set = _twin(AgentHandle.set)
    delete = _twin(AgentHandle.delete)
    append = _twin(AgentHandle.append)
    merge = _twin(AgentHandle.merge)
    record = _twin(AgentHandle.record)
    set_granularity = _twin(AgentHandle.set_granularity)
    set_retention = _twin(AgentHandle.set_retention)
    pause = _twin(AgentHandle.pause)
    resume = _twin(AgentHandle.resume)
    terminate = _twin(AgentHandle.terminate)
    restart = _twin(AgentHandle.restart)
    checkpoints = _twin(AgentHandle.checkpoints)
    status = _twin(AgentHandle.status)

    def batch(self, *, command_id: str | None = None) -> AsyncBatch:
        """As `AgentHandle.batch`, in an `async with` block."""
        return AsyncBatch(self.deferred, command_id)

    async def spawn_child(self, name: str, **arguments: Any) -> AsyncAgentHandle:
        """As `AgentHandle.spawn_child`."""
        child = self.path.child(name)
        outlives = bool(arguments.pop("outlives_parent", False))
        self._system.check_spawn(child.text, arguments)
        await self.ask(AdoptChild(child.text, outlives))
        spawned = await self._system.aio.spawn(child, parent=self.path.text, **arguments)
        return spawned.aio


class AsyncBatch(BatchBuilder):
    """Used in an `async with` block; what `BatchBuilder` is for threads."""

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
            self._receipt = await within(cast("Awaitable[Receipt]", sent))
