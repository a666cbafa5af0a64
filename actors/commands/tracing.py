"""What a system tells of messages on their way, for traces: who sends, handles and commits, and under which cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from attrs import frozen


class TracedMessage(Protocol):
    """A message on its way. It is identified by the object; a copy of it on another host is another object."""

    message: Any
    wanted: bool

    @property
    def error(self) -> BaseException | None:
        """The error in place of a reply, once there is an outcome."""
        ...

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` when there is an outcome."""
        ...


@frozen
class TracedAgent:
    """The agent that a span is about."""

    path: str
    agent_type: str | None
    session_id: str | None
    seq: int


@frozen
class TracedStep:
    """One attempt of a step."""

    name: str
    model: str | None
    """The model that its function asks; None: it asks none, or the handler did not say."""
    attempt: int


class Span(Protocol):
    """Something that has begun. Ends once, in any thread."""

    def running(self) -> AbstractContextManager[object]:
        """Have spans that are begun in this block, and in tasks that it starts, lie inside this one."""
        ...

    def end(self, problem: BaseException | str | None = None) -> None:
        """End it; `problem` is the error that it ended with, or its name."""
        ...


class Tracing(Protocol):
    """Takes note of what happens to messages. Its methods are called in any thread, and must not block or raise."""

    def send(self, agent: str, message: TracedMessage, carried: Mapping[str, str] | None = None) -> None:
        """A message is about to be sent: by the code that runs here, or where `inject` has given `carried`."""
        ...

    def inject(self, message: TracedMessage) -> dict[str, str]:
        """What a message carries to another host, so that its spans there lie inside those here."""
        ...

    def extract(self, message: TracedMessage, carried: Mapping[str, str]) -> None:
        """A message has come from another host, with what `inject` has given there."""
        ...

    def begin_handler(self, message: TracedMessage, agent: TracedAgent, durable: str | None = None) -> Span:
        """A handler of the user's begins; that of a durable message, which is named then, also where it goes on."""
        ...

    def begin_step(self, step: TracedStep, agent: TracedAgent, carried: Mapping[str, str]) -> Span:
        """The function of a step begins; `carried` is what `inject` has given for the handler that has begun it."""
        ...

    def begin_commit(self, messages: Sequence[TracedMessage], agent: TracedAgent, events: int) -> Span:
        """The events of these messages are about to be appended to the log."""
        ...

    def begin_recovery(self, message: TracedMessage, agent: str) -> Span:
        """An agent is about to be rebuilt from its log, because this message came."""
        ...
