"""The calls of one agent for durable messages, whose work goes on until its end, and for reminders."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import evolve

from duramen.events import InvalidMessage, Receipt
from duramen.events.model import Seconds, parse_seconds

from ...commands import (
    Answer,
    CancelWork,
    GetReminders,
    GetResult,
    GetUnfinished,
    Missed,
    Reminder,
    RemoveReminder,
    RetryWork,
    UnfinishedWork,
    make_remind,
)
from .messages import TIMEOUT, MessageCalls


class WorkCalls(MessageCalls):
    """Sends durable messages to one agent, and asks for their work."""

    __slots__ = ()

    def send(
        self,
        message: object,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Send a durable message, and return the receipt once it is in the log: it will be handled to its end.

        Raises InvalidMessage for a message whose type is not durable, ValueRefused, TooLarge, AgentPaused, MailboxFull.
        """
        accept = self._system.accept_message(message, command_id, durability)
        return self.ask(evolve(accept, expected_seq=expected_seq, metadata=metadata))

    def result(self, receipt: Receipt | int, *, timeout: Seconds | None = TIMEOUT) -> Any:
        """Wait for the end of the work of a durable message, and return its handler's reply; also long after the end.

        `receipt` is that of `send`, or its seq. Raises the error that the handler has raised, WorkStopped for work
        that was cancelled or ended with its agent's session, WorkParked, and AskTimeout, after which it may be called
        again.
        """
        return self.ask(GetResult(_work_of(receipt)), timeout=timeout)

    def answer(
        self,
        name: str,
        value: Any = None,
        *,
        work: Receipt | int | None = None,
        about: Any = None,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Answer what a durable handler waits for; before it waits, too. One answer goes to one wait, the oldest.

        `work` says whose wait, by the receipt of its message, and `about` what the answer is meant for. Raises
        AnswerRefused for work that has ended, and where the wait is about something else by now.
        """
        seq = None if work is None else _work_of(work)
        aside: Any = {"expected_seq": expected_seq, "metadata": metadata}
        return self.ask(Answer(name, value, seq, command_id, durability, about=about, **aside))

    def cancel(
        self,
        receipt: Receipt | int,
        *,
        seconds: Seconds = 30.0,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Cancel the work of a durable message: its handler gets WorkCancelled where it waits.

        What it then still does, in a `finally`, say, may take so many seconds. Raises InvalidMessage for work that has
        ended.
        """
        work, left = _work_of(receipt), parse_seconds("seconds", seconds)
        return self.ask(CancelWork(work, left, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def retry(
        self,
        receipt: Receipt | int,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Let parked work go on. Raises InvalidMessage for work that has ended."""
        work = _work_of(receipt)
        return self.ask(RetryWork(work, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def unfinished(self) -> list[UnfinishedWork]:
        """Return the work that has not ended, oldest first, and what it waits for.

        It is read from the log: no handler that runs is waited for, nor a message that was only told.
        """
        return self.ask(GetUnfinished())

    def remind(
        self,
        name: str,
        message: object,
        *,
        at: datetime | None = None,
        every: Seconds | None = None,
        missed: Missed = "once",
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Set a reminder, in place of one of the same name: the agent gets a durable message when it is due.

        It is due `at` a time (with a time zone), `every` so many seconds (or a timedelta) from then or from now on, or
        both. Each due time is accepted in the log once, whichever process dies, and not early. Times at which the
        agent could not be reached, or was paused, are made up for by one message (`missed="once"`), by none (`skip`),
        or each by its own (`all`). The end of the session removes it.

        Raises InvalidMessage, ValueRefused, TooLarge (16 KiB), AgentPaused, MailboxFull (1,000 reminders).
        """
        accepted = self._system.accept_message(message, command_id, None)
        remind = make_remind(name, accepted, at=at, every=every, missed=missed)
        return self.ask(evolve(remind, durability=durability, expected_seq=expected_seq, metadata=metadata))

    def remove_reminder(
        self,
        name: str,
        *,
        command_id: str | None = None,
        durability: str | None = None,
        expected_seq: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Remove a reminder, if there is one of this name."""
        return self.ask(RemoveReminder(name, command_id, durability, expected_seq=expected_seq, metadata=metadata))

    def reminders(self) -> list[Reminder]:
        """Return the reminders, in the order in which they were set; read from the log, as `unfinished`."""
        return self.ask(GetReminders())


def _work_of(receipt: object) -> int:
    seq = receipt.seq if isinstance(receipt, Receipt) else receipt
    if type(seq) is not int:
        raise InvalidMessage("work is named by the receipt of `send`, or by its seq", actual=type(receipt).__name__)
    return seq
