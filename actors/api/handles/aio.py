"""The calls of an agent for asyncio: the same names and arguments, and each returns an awaitable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import update_wrapper, wraps
from types import MethodType, TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, Unpack, cast

from attrs import evolve

from duramen.events import AgentPath, AskTimeout, Receipt, Unconfirmed
from duramen.events.model import Seconds, copy_plain, parse_seconds, parse_timeout

from ...commands import AdoptChild, Batch, Spawn, SpawnArguments, spawn_message
from ...handlers import OutputWriter
from .batch import BatchBuilder
from .calls import AgentCalls
from .lifecycle import require_started
from .memory import OUTPUT_TTL
from .messages import TIMEOUT
from .sender import MessageSender

P = ParamSpec("P")
R = TypeVar("R")


async def await_reply(reply: Awaitable[R], timeout: Seconds | None = TIMEOUT) -> R:
    """Await a reply for at most `timeout` seconds. Raises AskTimeout, or the handler's own error."""
    seconds = parse_timeout(timeout)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await reply
    except TimeoutError:
        if not limit.expired():
            raise  # the handler's own
        raise AskTimeout(
            f"no reply within {seconds} s; the command may still be carried out: ask again with the same command id",
            expected=seconds,
        ) from None


class _CoroutineFunction(Generic[P, R]):
    """A method that runs when it is called and returns a coroutine; `inspect.iscoroutinefunction` says True.

    An `async def` runs with its coroutine, and would read arguments that the caller may have changed by then.
    """

    __code__: Final = await_reply.__code__

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self._function = function
        self.__defaults__ = self.__kwdefaults__ = None
        update_wrapper(self, function)

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self._function(*args, **kwargs)


def _coroutine_function(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    return _CoroutineFunction(function)


class _Deferred(AgentCalls):
    """A handle whose calls return a coroutine, which sends the message and returns the reply."""

    __slots__ = ()

    def ask(
        self,
        message: object,
        *,
        block: bool = True,
        timeout: Seconds | None = TIMEOUT,
        command_id: str | None = None,
        durability: str | None = None,
        room: Seconds = 0.0,
    ) -> Any:
        # The value of the call, not of its first step.
        return self._ask(copy_plain(message), timeout, command_id, durability)

    async def _ask(
        self, message: object, timeout: Seconds | None, command_id: str | None, durability: str | None
    ) -> Any:
        self._system.check_cycle(self._path)
        # Without room: waiting for it would block the loop.
        sent = self._system.ask(
            self._path, message, block=False, timeout=timeout, command_id=command_id, durability=durability
        )
        try:
            return await await_reply(sent, timeout)
        finally:
            if not sent.done:  # timed out, or cancelled
                self._system.withdraw(self._path, sent)


def _twin(
    call: Callable[Concatenate[AgentCalls, P], R],
) -> Callable[Concatenate[AsyncAgentHandle, P], Coroutine[Any, Any, R]]:
    """Make the awaitable twin of a call of `AgentHandle`, with its arguments, result and documentation."""

    @_coroutine_function
    @wraps(call)
    def twin(self: AsyncAgentHandle, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return cast("Coroutine[Any, Any, R]", call(self.deferred, *args, **kwargs))

    return twin


class AsyncAgentHandle:
    """`AgentHandle` for asyncio. Cancelling a call drops its message if that is not begun; else it is carried out."""

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

    @_coroutine_function
    def ask(
        self,
        message: object,
        *,
        timeout: Seconds | None = TIMEOUT,
        command_id: str | None = None,
        durability: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Send a message and await its reply."""
        reply: Any = self.deferred.ask(message, timeout=timeout, command_id=command_id, durability=durability)
        return cast("Coroutine[Any, Any, Any]", reply)

    @_coroutine_function
    def tell(self, message: object, *, command_id: str | None = None, room: Seconds = 0.0) -> Coroutine[Any, Any, None]:
        """Send a message and do not wait for a reply. Raises MailboxFull after `room` seconds, and SystemClosed."""
        return self._tell(copy_plain(message), command_id, room)

    async def _tell(self, message: object, command_id: str | None, room: Seconds) -> None:
        if parse_seconds("room", room) > 0:
            await asyncio.to_thread(self.deferred.tell, message, command_id=command_id, room=room)
        else:
            self.deferred.tell(message, command_id=command_id)

    send = _twin(AgentCalls.send)
    result = _twin(AgentCalls.result)
    answer = _twin(AgentCalls.answer)
    cancel = _twin(AgentCalls.cancel)
    retry = _twin(AgentCalls.retry)
    unfinished = _twin(AgentCalls.unfinished)
    remind = _twin(AgentCalls.remind)
    remove_reminder = _twin(AgentCalls.remove_reminder)
    reminders = _twin(AgentCalls.reminders)
    get = _twin(AgentCalls.get)
    get_many = _twin(AgentCalls.get_many)
    keys = _twin(AgentCalls.keys)
    length = _twin(AgentCalls.length)
    slice = _twin(AgentCalls.slice)
    set = _twin(AgentCalls.set)
    delete = _twin(AgentCalls.delete)
    append = _twin(AgentCalls.append)
    extend = _twin(AgentCalls.extend)
    pop = _twin(AgentCalls.pop)
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

    def stream(self, name: str, *, ttl: Seconds = OUTPUT_TTL) -> OutputWriter:
        """As `AgentHandle.stream`, in an `async with` block."""
        return self.deferred.stream(name, ttl=ttl)

    def batch(
        self,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncBatch:
        """As `AgentHandle.batch`, in an `async with` block."""
        batch = Batch((), command_id, durability, expected_seq=expected_seq, metadata=metadata)
        return AsyncBatch(self.deferred, batch)

    @_coroutine_function
    def spawn_child(
        self,
        name: str,
        *,
        outlives_parent: bool = False,
        exist_ok: bool = False,
        **arguments: Unpack[SpawnArguments],
    ) -> Coroutine[Any, Any, AsyncAgentHandle]:
        """As `AgentHandle.spawn_child`."""
        child, message = self.path.child(name).text, spawn_message(self.path.text, **arguments)
        self._system.check_spawn(child, message)
        adoption = AdoptChild(child, bool(outlives_parent), durability=message.durability)
        return self._spawn(child, adoption, message, exist_ok)

    async def _spawn(self, child: str, adoption: AdoptChild, message: Spawn, exist_ok: bool) -> AsyncAgentHandle:
        with suppress(Unconfirmed):  # committed; the spawn's confirmation covers it
            await self.ask(adoption)
        spawned = AsyncAgentHandle(self._system, child)
        require_started(await spawned.ask(message), exist_ok)
        return spawned


class AsyncBatch(BatchBuilder):
    """`BatchBuilder` for asyncio, used in an `async with` block."""

    def __init__(self, deferred: _Deferred, batch: Batch) -> None:
        super().__init__(lambda operations: deferred.ask(evolve(batch, operations=operations)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        sent, self._receipt = self._receipt, None
        if sent is not None:
            self._receipt = await cast("Awaitable[Receipt]", sent)
