"""The mailboxes of this process, by agent path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import chain
from time import monotonic
from typing import Any, Final

from duramen.events import AskTimeout, DuramenError, MailboxFull, SystemClosed

from .call_cycles import current_waiter
from .dispatcher import Dispatcher
from .mailbox import COMMITTING, IDLE, WORKING, Envelope, Mailbox, Runnable

_SHARDS: Final = 256
"""A power of two. A million mailboxes are looked through some four thousand at a time."""
_LAST_SHARD: Final = _SHARDS - 1
_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_BUSY: Final = (WORKING, COMMITTING)


class ActorRegistry:
    """Finds or makes the mailbox of an agent and puts messages into it. Thread-safe.

    One lock, held for less than a microsecond, guards finding a mailbox, filling it and removing it: so no message
    gets into a mailbox that was removed.
    """

    def __init__(self, dispatcher: Dispatcher, most_waiting: int, activation: Callable[[Mailbox], Runnable]) -> None:
        self._dispatcher = dispatcher
        self._most_waiting = most_waiting
        self._activation = activation
        self._lock = threading.Lock()
        self._shards: list[dict[str, Mailbox]] = [{} for _ in range(_SHARDS)]
        self._count = 0
        self._closed: str | None = None

    def __len__(self) -> int:
        return self._count

    def enqueue(self, path: str, envelope: Envelope) -> Mailbox:
        """Put a message into the mailbox of `path` and do not schedule it. Raises MailboxFull, SystemClosed."""
        with self._lock:
            if self._closed is not None:
                raise SystemClosed(self._closed, agent=path)
            shard = self._shards[hash(path) & _LAST_SHARD]
            mailbox = shard.get(path)
            if mailbox is None:
                mailbox = Mailbox(path)
                mailbox.runner = self._activation(mailbox)
                shard[path] = mailbox  # last: a signal's handler may raise in between
                self._count += 1
            waiting = mailbox.waiting
            if len(waiting) >= self._most_waiting:
                raise MailboxFull(
                    f"{path} has {self._most_waiting} messages waiting; ask again later",
                    agent=path,
                    expected=self._most_waiting,
                )
            envelope.mailbox = mailbox
            waiting.append(envelope)
        return mailbox

    def check_cycle(self, path: str) -> None:
        """Raise CallCycle if the handler that runs here would wait in vain for a reply of `path`."""
        waiter = current_waiter()
        if waiter is not None:
            waiter.check(self.find(path))

    def find(self, path: str) -> Mailbox | None:
        """The mailbox of an agent that is in memory here, or that messages are under way to."""
        return self._shards[hash(path) & _LAST_SHARD].get(path)

    def has_mailbox(self, path: str) -> bool:
        """Whether an agent is in memory here, or messages of this process to it are under way. Raises SystemClosed."""
        if self._closed is not None:
            raise SystemClosed(self._closed, agent=path)
        return self.find(path) is not None

    def enqueue_within(self, path: str, envelope: Envelope, seconds: float) -> Mailbox:
        """As `enqueue`, but block at most `seconds` while the mailbox is full. Raises MailboxFull, SystemClosed."""
        deadline, pause, never = monotonic() + seconds, _PAUSE, threading.Event()
        while True:
            try:
                return self.enqueue(path, envelope)
            except MailboxFull:
                if monotonic() >= deadline:
                    raise
            never.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def send(self, path: str, envelope: Envelope, room: float = 0.0) -> None:
        """Put a message into the mailbox of `path`, as `enqueue_within` with `room` seconds, and schedule it."""
        try:
            mailbox = self.enqueue_within(path, envelope, room) if room > 0 else self.enqueue(path, envelope)
            if not mailbox.scheduled:
                self._dispatcher.schedule(mailbox)
        except DuramenError:
            raise
        except BaseException:  # a signal's handler has raised, maybe after the message was put into the mailbox
            found = self.find(path)
            if found is not None:
                self._dispatcher.schedule(found)
            raise

    def withdraw(self, path: str, is_it: Callable[[Envelope], bool]) -> None:
        """Have the message to `path` that `is_it` dropped, if it is not begun. Returns before that is done."""
        self._dispatcher.post(lambda: self.withdraw_now(path, is_it))

    def withdraw_now(self, path: str, is_it: Callable[[Envelope], bool]) -> None:
        """As `withdraw`, at once. Called in the core."""
        mailbox = self.find(path)
        envelope = None if mailbox is None or mailbox.runner is None else mailbox.runner.withdraw(is_it)
        if envelope is not None:
            envelope.refuse(AskTimeout(f"its caller waits no longer for this message to {path}: dropped", agent=path))

    def runs_here(self) -> bool:
        """Whether the calling code belongs to a handler of one of these agents."""
        waiter = current_waiter()
        return waiter is not None and self.find(waiter.mailbox.path) is waiter.mailbox

    def deactivate(self, mailbox: Mailbox) -> None:
        """Have the next message activate the agent from its log."""
        mailbox.runner = self._activation(mailbox)

    def remove_if_idle(self, mailbox: Mailbox) -> bool:
        """Remove a mailbox that is empty and idle; called in the core. Returns whether it was, and was not yet removed.

        A removed mailbox has no runner: whoever has found it before, in a page, finds nothing to release in it twice.
        """
        with self._lock:
            shard = self._shards[hash(mailbox.path) & _LAST_SHARD]
            if mailbox.waiting or mailbox.phase != IDLE or shard.get(mailbox.path) is not mailbox:
                return False
            del shard[mailbox.path]
            self._count -= 1
            mailbox.runner = None
            return True

    def pages(self) -> Iterator[list[Mailbox]]:
        """All mailboxes, in lists that are the caller's own. Those made or removed meanwhile may be among them."""
        for shard in self._shards:
            with self._lock:
                page = list(shard.values())
            yield page

    @property
    def is_closed(self) -> bool:
        """Whether new messages are refused."""
        return self._closed is not None

    def check_open(self) -> None:
        """Raise SystemClosed if new messages are refused."""
        if self._closed is not None:
            raise SystemClosed(self._closed)

    def close(self, why: str) -> None:
        """Refuse new messages with SystemClosed; waiting ones are still handled."""
        with self._lock:
            self._closed = why

    def wait_until_idle(self, deadline: float) -> None:
        """Block until no agent has anything to handle, or until `deadline` (of `time.monotonic`).

        An agent that is held, say until its restart, has something to handle only if a message waits.
        """
        never = threading.Event()
        while monotonic() < deadline:
            with self._lock:
                busy = any(
                    mailbox.waiting
                    or mailbox.phase in _BUSY
                    or (mailbox.runner is not None and mailbox.runner.is_running)
                    for shard in self._shards
                    for mailbox in shard.values()
                )
            if not busy:
                return
            never.wait(0.005)

    def after_fork(self, why: str) -> None:
        """In a forked child: refuse all messages. The old lock may belong to a thread that does not exist here."""
        self._lock = threading.Lock()
        self._closed = why

    def fail_waiting(self, error: Callable[[str], DuramenError]) -> None:
        """Answer all waiting messages with an error."""
        with self._lock:
            waiting: list[tuple[str, Any]] = []
            for mailbox in chain.from_iterable(shard.values() for shard in self._shards):
                while mailbox.waiting:
                    waiting.append((mailbox.path, mailbox.waiting.pop(0)))
                if mailbox.runner is not None:
                    waiting += [(mailbox.path, envelope) for envelope in mailbox.runner.abandon()]
        for path, envelope in waiting:
            envelope.refuse(error(path))
