"""Reactors: handlers that act on what agents do anywhere, each event once in effect."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from hashlib import sha256
from itertools import count
from typing import Any, Final, TypeAlias, Unpack, cast

from attrs import evolve

from duramen.events import AgentPath, Event, InvalidMessage, agent_path
from duramen.events.model import Seconds
from duramen.projections.projection import Reactor

from ...commands import Accept, Message, Spawn
from ...dispatch import EventLoop
from ...handlers import OutputWriter
from ...work import Retry
from .handle import AgentHandle
from .sender import AskArguments, MessageSender

THRICE: Final = Retry(times=3, backoff=1.0)
"""How often a reactor's handler is called by default before it is parked."""

_KEY: Final = 32


class Reaction:
    """What a reactor's handler acts with. All that it asks of agents has an id, so that a repetition is recognised."""

    def __init__(self, system: MessageSender, key: str) -> None:
        self.key: Final = key
        """The same each time this event is handed to this reactor, and no other's: for services outside."""
        self._sender = _IdentifiedSender(system, key)

    def agent(self, path: str | AgentPath) -> AgentHandle:
        """The handle of an agent whose calls carry command ids, by their order: what they do happens once.

        In a coroutine, use its `aio`.
        """
        return AgentHandle(self._sender, agent_path(path).text)


ReactionHandler: TypeAlias = Callable[[Event, Reaction], Awaitable[None] | None]


class HandlerReactor(Reactor):
    """Calls a handler with each event; a coroutine runs on the system's event loop."""

    def __init__(
        self, system: MessageSender, loop: EventLoop, *, log: str, name: str, handler: ReactionHandler, retry: Retry
    ) -> None:
        """`log` identifies the log. Raises InvalidMessage."""
        if not callable(handler):
            raise InvalidMessage(f"reactor {name} takes a function of an event and a reaction")
        if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
            raise InvalidMessage(f"reactor {name} would never run a generator; act instead of yielding")
        if type(cast("object", retry)) is not Retry:
            raise InvalidMessage(f"reactor {name}: retry is a Retry", actual=type(retry).__name__)
        self._system = system
        self._loop = loop
        self._origin = f"{log}\0{name}"
        self._handler = handler
        self._retry = retry

    def react(self, event: Event) -> None:
        text = f"{self._origin}\0{event.agent}\0{event.seq}"
        reaction = Reaction(self._system, sha256(event.digest + text.encode()).hexdigest()[:_KEY])
        found = self._handler(event, reaction)
        if inspect.isawaitable(found):  # a plain function may return one, too
            self._loop.start(_awaited(found)).result()

    def pause_after(self, times: int, error: Exception) -> float | None:
        is_final = any(base.__name__ in self._retry.never for base in type(error).__mro__)
        return None if is_final or times >= self._retry.times else self._retry.pause_before(times + 1)


async def _awaited(found: Awaitable[None]) -> None:
    await found


class _IdentifiedSender(MessageSender):
    """Sends messages as the system does, each with an id of its own."""

    def __init__(self, system: MessageSender, key: str) -> None:
        self._system = system
        self._key = key
        self._count = count(1)

    def ask(self, path: str, message: object, **how: Unpack[AskArguments]) -> Any:
        message, how["command_id"] = self._identify(message, how["command_id"])
        return self._system.ask(path, message, **how)

    def tell(self, path: str, message: object, *, command_id: str | None = None, room: Seconds = 0.0) -> None:
        message, command_id = self._identify(message, command_id)
        self._system.tell(path, message, command_id=command_id, room=room)

    def _identify(self, message: object, command_id: str | None) -> tuple[object, str | None]:
        if not isinstance(message, Message):
            return message, command_id or self._next_id()
        own = cast("Any", message)
        if getattr(own, "command_id", "") is None:
            return evolve(own, command_id=self._next_id()), command_id
        return own, command_id

    def _next_id(self) -> str:
        return f"{self._key}-{next(self._count)}"

    def withdraw(self, path: str, reply: object) -> None:
        self._system.withdraw(path, reply)

    def open_output(
        self, path: str, name: str, record: Callable[[str, dict[str, Any]], Any], ttl: Seconds
    ) -> OutputWriter:
        return self._system.open_output(path, name, record, ttl)

    def check_spawn(self, path: str, message: Spawn) -> None:
        self._system.check_spawn(path, message)

    def accept_message(self, message: object, command_id: str | None, durability: str | None) -> Accept:
        return self._system.accept_message(message, command_id, durability)

    def check_cycle(self, path: str) -> None:
        self._system.check_cycle(path)
