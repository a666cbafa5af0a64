"""What handles need of a system: it sends messages to agents, by path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired, Protocol, TypedDict, Unpack

from duramen.events.model import Seconds

from ...commands import Accept, Spawn
from ...handlers import OutputWriter


class AskArguments(TypedDict):
    """How a message is sent, and its reply waited for."""

    block: bool
    timeout: Seconds | None
    command_id: str | None
    durability: NotRequired[str | None]
    room: NotRequired[Seconds]


class MessageSender(Protocol):
    """The part of a system that handles need."""

    def ask(self, path: str, message: object, **how: Unpack[AskArguments]) -> Any: ...

    def tell(self, path: str, message: object, *, command_id: str | None = ..., room: Seconds = ...) -> None: ...

    def withdraw(self, path: str, reply: object) -> None: ...

    def open_output(
        self, path: str, name: str, record: Callable[[str, dict[str, Any]], Any], ttl: Seconds
    ) -> OutputWriter: ...

    def check_spawn(self, path: str, message: Spawn) -> None: ...

    def accept_message(self, message: object, command_id: str | None, durability: str | None) -> Accept: ...

    def check_cycle(self, path: str) -> None: ...
