"""Messages of any class to one agent: asked, with a reply, and told, without one."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeVar, overload

from duramen.events import AgentPath
from duramen.events.model import Seconds

from ...commands import Message
from ...dispatch import Reply
from .sender import MessageSender

TIMEOUT: Final = 30.0
"""Seconds that a call waits for its reply by default."""

R = TypeVar("R")


class MessageCalls:
    """Sends messages to one agent. Subclasses decide how the reply is awaited."""

    __slots__ = ("_path", "_system")

    def __init__(self, system: MessageSender, path: str) -> None:
        self._system = system
        self._path = path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"

    @property
    def path(self) -> AgentPath:
        """The agent path."""
        return AgentPath.parse(self._path)

    @overload
    def ask(
        self,
        message: object,
        *,
        block: Literal[False],
        timeout: Seconds | None = ...,
        command_id: str | None = ...,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> Reply: ...

    @overload
    def ask(
        self,
        message: Message[R],
        *,
        block: Literal[True] = ...,
        timeout: Seconds | None = ...,
        command_id: str | None = ...,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> R: ...

    @overload
    def ask(
        self,
        message: object,
        *,
        block: bool = ...,
        timeout: Seconds | None = ...,
        command_id: str | None = ...,
        durability: str | None = ...,
        room: Seconds = ...,
    ) -> Any: ...

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
        """Send a message and wait for its reply; `block=False` returns its future instead (`.get`, awaitable).

        `timeout` and `room` are seconds, or timedeltas; without a `timeout` (None) it may wait for ever. A message
        that is not begun when its time is over is dropped; one whose future you have is not.
        `command_id` and `durability` are for messages of your own classes; duramen's messages carry theirs. Raises
        MailboxFull after the mailbox has been full for `room` seconds.

        Texts and bytes of a message of duramen's that are too large for an event are stored beside the log first.
        """
        return self._system.ask(
            self._path, message, block=block, timeout=timeout, command_id=command_id, durability=durability, room=room
        )

    def tell(self, message: object, *, command_id: str | None = None, room: Seconds = 0.0) -> None:
        """Send a message and do not wait for a reply. Errors of its handler are only logged.

        Raises MailboxFull after the mailbox has been full for `room` seconds, and SystemClosed.
        """
        self._system.tell(self._path, message, command_id=command_id, room=room)
