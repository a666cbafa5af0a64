"""Who runs when: agents have a mailbox and no thread; the core runs those that have messages.

The core is a loop that one thread at a time runs, holding a lock: run mailboxes with messages, send what they
appended, hand out answers. Mostly that is the core's own thread. But a caller that waits for its reply anyway, and
finds the core idle, runs the loop itself until its reply is there: nothing else waits, so no thread has to change.

Whatever may block does not run here but in a worker thread, which posts its result back to the core.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from attrs import define

from duramen.events.logging import get_logger, raised_at

from .journal import Commit, Journal
from .mailbox import IDLE, Mailbox
from .reply import Reply
from .signals import SignalShield

__all__ = ["Dispatcher"]

_LAST_MOMENT: Final = 2.0
"""Seconds for what is under way to be given up at the end."""

_BURST: Final = 1024
"""Mailboxes run before what they appended is sent: the server works on it while the next ones run."""

# What the core is doing; others look at it to know how to call it.
_ASLEEP, _RUNNING, _WAITING = 0, 1, 2


class Dispatcher:
    """Runs mailboxes. `schedule` and `post` are callable from any thread; the rest of the work happens in the core."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ready: deque[Mailbox] = deque()
        self._posted: deque[Callable[[], None]] = deque()
        self._core = threading.Lock()
        self._doing = _ASLEEP
        self._bell = threading.Event()
        self._closed = False
        self._log = get_logger("dispatcher")
        self._thread = threading.Thread(target=self._main, name="duramen-core", daemon=True)
        self._thread.start()

    # -- from any thread -----------------------------------------------------------------------------------------

    def schedule(self, mailbox: Mailbox) -> None:
        """Run this mailbox soon; at once if the core is not busy."""
        if not mailbox.scheduled:
            mailbox.scheduled = True
            self._ready.append(mailbox)
            self._call()

    def shield(self) -> SignalShield:
        """What `run_for` needs around it."""
        return SignalShield(self._journal.wake)

    def run_for(self, mailbox: Mailbox, reply: Reply, timeout: float | None, shield: SignalShield) -> None:
        """As `schedule`; and if the core is idle, be the core until `reply` is there or nothing is left to do.

        Gives the core back after `timeout` seconds, when the server is lost (finding it again may block for longer),
        and when a signal comes, whose handler runs when the caller leaves the shield.
        """
        if not mailbox.scheduled:
            mailbox.scheduled = True
            self._ready.append(mailbox)
        if not self._core.acquire(blocking=False):
            self._call()
            return
        deadline = None if timeout is None else monotonic() + timeout
        try:
            self._loop(_Guest(reply, deadline, shield))
        finally:
            self._doing = _ASLEEP
            self._core.release()
        if self._has_work():
            self._bell.set()

    def post(self, work: Callable[[], None]) -> None:
        """Run `work` in the core."""
        self._posted.append(work)
        self._call()

    def _call(self) -> None:
        # Work is put into its queue before this is read, and the core reads its queues after it has set this:
        # so one of the two sees the other.
        if self._doing == _WAITING:
            self._journal.wake()
        elif self._doing == _ASLEEP:
            self._bell.set()

    # -- in the core -----------------------------------------------------------------------------------------------

    def submit(self, commit: Commit) -> None:
        """Append; called in the core."""
        self._journal.submit(commit)

    def _has_work(self) -> bool:
        return bool(self._ready or self._posted or not self._journal.idle)

    def _main(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            with self._core:
                try:
                    self._loop(None)
                finally:
                    self._doing = _ASLEEP
            if self._has_work():
                self._bell.set()
            elif self._closed:
                return

    def _loop(self, guest: _Guest | None) -> None:
        journal = self._journal
        while True:
            self._doing = _RUNNING
            self._run_posted()
            self._run_ready()
            journal.flush()
            if guest is not None and (guest.should_leave() or not journal.connected):
                return
            if journal.in_flight:
                self._doing = _WAITING
                idle = not self._ready and not self._posted
                journal.collect(0 if not idle else None if guest is None else guest.left())
                if guest is not None and guest.reply.done:
                    return  # what else there is to do is the core's own thread's
            elif not self._ready and not self._posted:
                return

    def _run_posted(self) -> None:
        posted = self._posted
        while posted:
            work = posted.popleft()
            try:
                work()
            except BaseException as error:  # whatever it is, the core must go on
                self._log.error("posted_work_failed", error=type(error).__name__, at=raised_at(error))

    def _run_ready(self) -> None:
        ready = self._ready
        for _ in range(min(_BURST, len(ready))):
            mailbox = ready.popleft()
            mailbox.scheduled = False
            if mailbox.phase == IDLE and mailbox.runner is not None and mailbox.waiting:
                try:
                    mailbox.runner.run()
                except BaseException as error:
                    self._log.error("run_failed", agent=mailbox.path, error=type(error).__name__, at=raised_at(error))

    def close(self, timeout: float) -> bool:
        """End the core when it has nothing left to do; whether it had ended within `timeout` seconds.

        What is still under way then ends as an unknown outcome.
        """
        self._closed = True
        self._bell.set()
        self._thread.join(timeout)
        ended = not self._thread.is_alive()
        if not ended:
            self._journal.give_up()
            self._thread.join(_LAST_MOMENT)
        if not self._thread.is_alive():
            self._journal.close()
        return ended


@define
class _Guest:
    """A caller who is the core for as long as it waits for its reply anyway."""

    reply: Reply
    deadline: float | None
    shield: SignalShield

    def should_leave(self) -> bool:
        return (
            self.reply.done or bool(self.shield.caught) or (self.deadline is not None and monotonic() >= self.deadline)
        )

    def left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())
