"""Where an agent's messages wait, and who takes them next."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import Any, Protocol

from duramen.events.model import EXTERNAL

from .reply import Reply

__all__ = ["COMMITTING", "HELD", "IDLE", "WORKING", "Envelope", "Mailbox", "Runnable"]

# A mailbox's runner is at any moment in one of these phases; only the dispatcher's core changes them.
#
#     IDLE ──run──▶ COMMITTING ──answered──▶ IDLE      quick messages: handled by the core, one append for all
#     IDLE ──run──▶ WORKING ──done──▶ COMMITTING …     one message that may block: handled by a worker thread
#     COMMITTING ──a message to hold was among them──▶ HELD ──released, or its part of a cascade done──▶ IDLE
IDLE = 0
WORKING = 1
COMMITTING = 2
HELD = 3


class Envelope(Reply):
    """A message on its way, when it was sent (seconds since the epoch), and the future of its reply.

    One object for both: with thousands of calls under way, what the garbage collector has to look at decides their
    cost. The outcome is kept in it while the turn is committed, and nobody sees it before `release`.
    """

    __slots__ = ("cause", "command_id", "message", "sent_at", "tries", "wanted")

    message: Any
    """None once there is an outcome: who keeps the future does not keep what was asked."""

    def __init__(self, message: Any = None, command_id: str | None = None, wanted: bool = True) -> None:
        self._done = False
        self._callbacks = None
        self.result = None
        self.error = None
        self.message = message
        self.command_id = command_id
        self.wanted = wanted
        """Whether anybody waits for the reply."""
        self.cause = EXTERNAL
        self.sent_at = time()
        self.tries = 0

    def stage(self, value: Any) -> None:
        """Let this be the reply, once it is released."""
        self.result, self.error = value, None

    def stage_error(self, error: BaseException) -> None:
        """Let this be raised in place of a reply, once it is released."""
        self.result, self.error = None, error

    def deliver(self) -> None:
        """Hand over what was kept. Nothing happens if there was an outcome already: its system was closed meanwhile."""
        if not self._done:
            self.message = None
            self._done = True  # last: who sees it may read the rest
            if self._callbacks is not None:
                self._call_back()

    def answer(self, value: Any) -> None:
        """Hand over a reply, unless there was an outcome already."""
        if not self._done:
            self.stage(value)
            self.deliver()

    def refuse(self, error: BaseException) -> None:
        """Hand over an error in place of a reply, unless there was an outcome already."""
        if not self._done:
            self.stage_error(error)
            self.deliver()


class Runnable(Protocol):
    """Whoever handles a mailbox's messages: an agent in memory, or its activation."""

    def run(self) -> None:
        """Handle what waits. Called by the core only, and only while the mailbox is IDLE."""
        ...

    def abandon(self) -> list[Envelope]:
        """At the end of the system: messages that were taken out of the mailbox and not answered."""
        ...


class Mailbox:
    """The unit the dispatcher schedules. `runner` is replaced when the agent is activated, dropped or passivated."""

    __slots__ = ("path", "phase", "runner", "scheduled", "waiting")

    def __init__(self, path: str) -> None:
        self.path = path
        self.waiting: list[Envelope] = []  # a deque takes 600 bytes even when it is empty
        self.scheduled = False
        self.phase = IDLE
        self.runner: Runnable | None = None

    def requeue(self, envelopes: Sequence[Envelope]) -> None:
        """Let these be handled again, before all others, in their order."""
        self.waiting[:0] = envelopes
