"""The mailboxes of this process, by agent path."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from duramen.events import DuramenError, MailboxFull, SystemClosed

from .dispatcher import Dispatcher
from .mailbox import IDLE, Envelope, Mailbox, Runnable

__all__ = ["ActorRegistry"]


_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class ActorRegistry:
    """Finds or makes the mailbox of an agent and puts messages into it. Thread-safe.

    One lock guards finding a mailbox, putting into it and taking it away, so that no message gets into a mailbox
    that nobody looks at any more. It is held for less than a microsecond.
    """

    def __init__(self, dispatcher: Dispatcher, most_waiting: int, activation: Callable[[Mailbox], Runnable]) -> None:
        self._dispatcher = dispatcher
        self._most_waiting = most_waiting
        self._activation = activation
        self._lock = threading.Lock()
        self._mailboxes: dict[str, Mailbox] = {}
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._mailboxes)

    def enqueue(self, path: str, envelope: Envelope) -> Mailbox:
        """Put a message into the mailbox of `path` without scheduling it. Raises MailboxFull, SystemClosed."""
        with self._lock:
            if self._closed is not None:
                raise SystemClosed(self._closed, agent=path)
            mailbox = self._mailboxes.get(path)
            if mailbox is None:
                mailbox = self._mailboxes[path] = Mailbox(path)
                mailbox.runner = self._activation(mailbox)
            if len(mailbox.waiting) >= self._most_waiting:
                raise MailboxFull(
                    f"{path} has {self._most_waiting} messages waiting; ask again later",
                    agent=path,
                    expected=self._most_waiting,
                )
            mailbox.waiting.append(envelope)
        return mailbox

    def enqueue_within(self, path: str, envelope: Envelope, seconds: float) -> Mailbox:
        """As `post`, but wait at most so many seconds for room in the mailbox. Raises MailboxFull, SystemClosed."""
        deadline, pause, rest = monotonic() + seconds, _PAUSE, threading.Event()
        while True:
            try:
                return self.enqueue(path, envelope)
            except MailboxFull:
                if monotonic() >= deadline:
                    raise
            rest.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def send(self, path: str, envelope: Envelope, room: float = 0.0) -> None:
        """Put a message into the mailbox of `path`, waiting `room` seconds for room, and let it run."""
        mailbox = self.enqueue_within(path, envelope, room) if room > 0 else self.enqueue(path, envelope)
        if not mailbox.scheduled:
            self._dispatcher.schedule(mailbox)

    def deactivate(self, mailbox: Mailbox) -> None:
        """Let whoever comes next activate the agent from its log."""
        mailbox.runner = self._activation(mailbox)

    def remove_if_idle(self, mailbox: Mailbox) -> bool:
        """Take a mailbox away unless a message waits or something runs; called in the core."""
        with self._lock:
            if mailbox.waiting or mailbox.phase != IDLE:
                return False
            self._mailboxes.pop(mailbox.path, None)
            return True

    def mailboxes(self) -> list[Mailbox]:
        """Those there are now."""
        with self._lock:
            return list(self._mailboxes.values())

    def close(self, why: str) -> None:
        """Take no more messages; what waits is still handled."""
        with self._lock:
            self._closed = why

    def wait_until_idle(self, deadline: float) -> None:
        """Wait until every mailbox is empty and at rest, until `deadline` (of `time.monotonic`)."""
        rest = threading.Event()
        while monotonic() < deadline:
            with self._lock:
                busy = any(mailbox.waiting or mailbox.phase != IDLE for mailbox in self._mailboxes.values())
            if not busy:
                return
            rest.wait(0.005)

    def after_fork(self, why: str) -> None:
        """In a forked child: refuse everything. The lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()
        self._closed = why

    def fail_waiting(self, error: Callable[[str], DuramenError]) -> None:
        """Answer everything that still waits with an error."""
        with self._lock:
            waiting: list[tuple[str, Any]] = []
            for mailbox in self._mailboxes.values():
                while mailbox.waiting:
                    waiting.append((mailbox.path, mailbox.waiting.pop(0)))
                if mailbox.runner is not None:
                    waiting += [(mailbox.path, envelope) for envelope in mailbox.runner.abandon()]
        for path, envelope in waiting:
            envelope.refuse(error(path))
