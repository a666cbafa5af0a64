"""A mailbox holds an agent's waiting messages; an envelope holds one message and the future of its reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import time
from typing import Any, Protocol

from duramen.events.model import EXTERNAL

from .call_cycles import Waiter
from .reply import Reply

# The phases of a mailbox; only the core changes them.
#
#     IDLE ──run──▶ COMMITTING ──answered──▶ IDLE      quick messages: handled by the core, one append for all
#     IDLE ──run──▶ WORKING ──done──▶ COMMITTING …     one message that may block: handled by a worker thread
#     COMMITTING ──a message to hold was among them──▶ HELD ──released, or its part of a cascade done──▶ IDLE
IDLE = 0
WORKING = 1
COMMITTING = 2
HELD = 3


class Envelope(Reply):
    """A message, the time it was sent (seconds since the epoch), and the future of its reply.

    They are one object because the garbage collector's work decides the cost of thousands of calls in flight. The
    outcome is staged in it while the turn is committed; nobody sees it before `deliver`.
    """

    __slots__ = ("cause", "command_id", "durability", "message", "sent_at", "tries", "wanted")

    message: Any
    """None once there is an outcome, so that a future does not keep its message in memory."""

    def __init__(
        self,
        message: Any = None,
        command_id: str | None = None,
        wanted: bool = True,
        durability: str | None = None,
    ) -> None:
        self._done = False
        self._callbacks = None
        self.result = None
        self.error = None
        self.message = message
        self.command_id = command_id
        self.wanted = wanted
        """False for `tell`: nobody waits for the reply."""
        self.cause = EXTERNAL
        self.sent_at = time()
        self.tries = 0
        self.durability = durability
        """The durability asked for with a message of the user's own; duramen's messages carry theirs."""
        self.mailbox = None

    def stage(self, value: Any) -> None:
        """Set the reply that `deliver` will hand over."""
        self.result, self.error = value, None

    def stage_error(self, error: BaseException) -> None:
        """Set the error that `deliver` will hand over in place of a reply."""
        self.result, self.error = None, error

    def deliver(self) -> None:
        """Hand over the staged outcome, unless there is an outcome already because the system was closed."""
        if not self._done:
            self.message = None
            self._done = True  # last: readers check it first
            if self._callbacks is not None:
                self._call_back()

    def answer(self, value: Any) -> None:
        """Hand over a reply, unless there is an outcome already."""
        if not self._done:
            self.stage(value)
            self.deliver()

    def refuse(self, error: BaseException) -> None:
        """Hand over an error in place of a reply, unless there is an outcome already."""
        if not self._done:
            self.stage_error(error)
            self.deliver()


class Runnable(Protocol):
    """Handles a mailbox's messages: an agent in memory, or its activation."""

    @property
    def is_running(self) -> bool:
        """Whether something is under way outside the mailbox whose end is to be waited for."""
        ...

    def run(self) -> None:
        """Handle the waiting messages. Called in the core, and only while the mailbox is IDLE."""
        ...

    def abandon(self) -> list[Envelope]:
        """Return the unanswered messages that are no longer in the mailbox. Called when the system closes."""
        ...

    def withdraw(self, is_it: Callable[[Envelope], bool]) -> Envelope | None:
        """Take out the message that `is_it`, unless it is begun: nobody waits for its reply. Called in the core."""
        ...


class Mailbox:
    """The unit that the dispatcher schedules. Activating, dropping and passivating the agent replace its `runner`."""

    __slots__ = ("path", "phase", "runner", "scheduled", "waiter", "waiting")

    def __init__(self, path: str) -> None:
        self.path = path
        self.waiting: list[Envelope] = []  # an empty deque takes 600 bytes
        self.scheduled = False
        self.phase = IDLE
        self.runner: Runnable | None = None
        self.waiter: Waiter | None = None
        """The message that a worker is handling."""

    def withdraw(self, is_it: Callable[[Envelope], bool], first: int = 0) -> Envelope | None:
        """Take the message out that `is_it`, from place `first` on; None if it is not there. Called in the core."""
        for envelope in self.waiting[first:]:
            if is_it(envelope):
                with suppress(ValueError):  # a worker that answers reads from the log was quicker
                    self.waiting.remove(envelope)
                    return envelope
        return None

    def withdraw_first(self, envelope: Envelope) -> bool:
        """Take back the first message, which a worker thread is to take; False: it has. Called in the core.

        The worker finds an answered envelope in its place: it must not take the next message for this one.
        """
        stand_in = Envelope(wanted=False)
        stand_in.answer(None)
        self.waiting.insert(0, stand_in)
        try:
            self.waiting.remove(envelope)
        except ValueError:  # the worker was quicker
            self.waiting.remove(stand_in)
            return False
        return True

    def requeue(self, envelopes: Sequence[Envelope]) -> None:
        """Put these messages first, in their order, to be handled again."""
        self.waiting[:0] = envelopes
