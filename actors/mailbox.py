"""Where an agent's messages wait, and who takes them next."""

from __future__ import annotations

from collections import deque
from time import time
from typing import Any, Protocol

from .reply import Reply

__all__ = ["COMMITTING", "HELD", "IDLE", "WORKING", "Envelope", "Mailbox", "Runner"]

# A mailbox's runner is at any moment in one of these phases; only the dispatcher's core changes them.
#
#     IDLE ──run──▶ COMMITTING ──answered──▶ IDLE      quick messages: handled by the core, one append for all
#     IDLE ──run──▶ WORKING ──done──▶ COMMITTING …     one message that may block: handled by a worker thread
#     COMMITTING ──a message to hold was among them──▶ HELD ──released, or its part of a cascade done──▶ IDLE
IDLE = 0
WORKING = 1
COMMITTING = 2
HELD = 3


class Envelope:
    """A message on its way, when it was sent (seconds since the epoch), and who wants the reply."""

    __slots__ = ("command_id", "message", "reply_to", "sent_at", "tries")

    def __init__(self, message: Any, reply_to: Reply | None = None, command_id: str | None = None) -> None:
        self.message = message
        self.reply_to = reply_to
        self.command_id = command_id
        self.sent_at = time()
        self.tries = 0

    def answer(self, value: Any) -> None:
        if self.reply_to is not None and not self.reply_to.done:  # done: its system was closed meanwhile
            self.reply_to.set(value)

    def fail(self, error: BaseException) -> None:
        if self.reply_to is not None and not self.reply_to.done:
            self.reply_to.fail(error)


class Runner(Protocol):
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
        self.waiting: deque[Envelope] = deque()
        self.scheduled = False
        self.phase = IDLE
        self.runner: Runner | None = None

    def put_back(self, envelopes: list[Envelope]) -> None:
        """Let these be handled again, before all others, in their order."""
        self.waiting.extendleft(reversed(envelopes))
