"""The dispatcher runs the mailboxes that have messages; agents have no thread of their own.

The core is a loop: run mailboxes, send their appends, hand out the answers. One thread at a time runs it, holding a
lock. Mostly that is the core's own thread. A caller that would block for its reply and finds the core idle runs the
loop itself until the reply is there, which saves two thread switches.

Work that may block runs in a worker thread, which posts its result back to the core.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Final, Protocol

from attrs import define

from duramen.events.logging import get_logger, raised_at

from .journal import Commit, Journal
from .mailbox import IDLE, Mailbox
from .reply import Reply
from .signals import SignalShield

_GIVE_UP_SECONDS: Final = 1.0
"""How long `close` waits, after its time-out, for the core to fail the appends in flight."""

_PAUSE_AFTER_DEFECT: Final = 0.1
"""Seconds before the core goes on after an exception that nothing has caught."""

_BURST: Final = 1024
"""Most mailboxes run before their appends are sent: the server then works while the next ones run."""

_STEP_SECONDS: Final = 0.0005
"""How long a piece of work that is posted in steps keeps the core; messages are handled before the next one."""

_VISIT_SECONDS: Final = 0.005
"""Most that `post_and_run` runs the core: an append and the replies to it, unless the disk is slow."""

# What the core is doing, which decides how other threads wake it.
_ASLEEP, _RUNNING, _WAITING = 0, 1, 2


class Dispatcher:
    """Runs mailboxes. `submit` is callable in the core only, all else from any thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ready: deque[Mailbox] = deque()
        self._posted: deque[Callable[[], None]] = deque()
        self._core = threading.Lock()
        self._phase = _ASLEEP
        self._wake_up = _Bell()
        self._closed = False
        self.after_pass: Callable[[], None] | None = None
        """Called in the core each time that mailboxes have run."""
        self._log = get_logger("dispatcher")
        self._thread = threading.Thread(target=self._main, name="duramen-core", daemon=True)
        self._thread.start()

    # -- from any thread -----------------------------------------------------------------------------------------

    def schedule(self, mailbox: Mailbox) -> None:
        """Have the core run this mailbox; at once if it is not busy."""
        if not mailbox.scheduled:
            mailbox.scheduled = True
            try:
                self._ready.append(mailbox)
                self._wake()
            except BaseException:  # a signal's handler has raised: a mailbox twice in line does no harm, one never does
                mailbox.scheduled = False
                self._ready.append(mailbox)
                self._wake()
                raise

    def shield(self) -> SignalShield:
        """The `with` block that `run_for` has to be called in."""
        return SignalShield(self._journal.wake)

    def run_for(self, mailbox: Mailbox, reply: Reply, timeout: float | None, shield: SignalShield) -> None:
        """Schedule a mailbox; if the core is idle, run it in this thread until `reply` is done or no work is left.

        Stops after `timeout` seconds, when the server is lost (reconnecting may block for longer), and when a signal
        arrives; the signal's handler is called when the caller leaves the shield.
        """
        if not mailbox.scheduled:
            mailbox.scheduled = True
            self._ready.append(mailbox)
        if not self._core.acquire(blocking=False):
            self._wake()
            return
        deadline = None if timeout is None else monotonic() + timeout
        try:
            self._run_core(_Caller(reply, deadline, shield))
        finally:
            self._core.release()
        if self._has_work():
            self._wake_up.ring()

    def post(self, work: Callable[[], None]) -> None:
        """Have the core call `work`. An exception of it is logged."""
        self._posted.append(work)
        self._wake()

    def post_in_steps(self, work: Iterator[None]) -> None:
        """Have the core do all of `work`, for half a millisecond at a time; messages are handled in between."""
        self.post(lambda: self.run_in_steps(work))

    def run_in_steps(self, work: Iterator[None]) -> None:
        """As `post_in_steps`, and the first step is done at once. Called in the core."""
        end = monotonic() + _STEP_SECONDS
        for _ in work:
            if monotonic() >= end:
                self.post_in_steps(work)
                return

    def post_and_run(self, works: Sequence[Callable[[], None]], *, waits: bool = True) -> None:
        """Have the core call these; if it is idle, run it in this thread until no work is left, for a short time.

        For a thread that the next messages do not need while these are handled: it saves the switch to the core's.
        Unless it `waits`, the thread sends what they append, and leaves the answers to the core's.
        """
        self._posted.extend(works)
        if not self._core.acquire(blocking=False):
            self._wake()
            return
        try:
            self._run_core(_Visitor(monotonic() + _VISIT_SECONDS if waits else 0.0))
        finally:
            self._core.release()
        if self._has_work():
            self._wake_up.ring()

    def _wake(self) -> None:
        # A thread queues work before it reads the phase; the core sets the phase before it reads its queues: so
        # either this thread sees the core asleep, or the core sees the work.
        if self._phase == _WAITING:
            self._journal.wake()
        elif self._phase == _ASLEEP:
            self._wake_up.ring()

    # -- in the core -----------------------------------------------------------------------------------------------

    def submit(self, commit: Commit) -> None:
        """Hand an append to the journal."""
        self._journal.submit(commit)

    def _has_work(self) -> bool:
        return bool(self._ready or self._posted or not self._journal.idle)

    def _main(self) -> None:
        while True:
            self._wake_up.wait()
            with self._core:
                self._run_core(None)
            if self._has_work():
                self._wake_up.ring()
            elif self._closed:
                return

    def _run_core(self, caller: _Guest | None) -> None:
        try:
            self._loop(caller)
        except BaseException as error:  # a defect: the core outlives it, without a flood of its log
            self._log.error("core_failed", error=type(error).__name__, at=raised_at(error))
            sleep(_PAUSE_AFTER_DEFECT)
        finally:
            self._phase = _ASLEEP

    def _loop(self, caller: _Guest | None) -> None:
        journal = self._journal
        while True:
            self._phase = _RUNNING
            if self._posted:
                self._run_posted()
            self._run_ready()
            journal.flush()
            if self.after_pass is not None:
                self.after_pass()
            if caller is not None and (caller.should_stop() or not journal.connected):
                return
            if journal.in_flight:
                self._phase = _WAITING
                idle = not self._ready and not self._posted
                answers = journal.receive(0 if not idle else None if caller is None else caller.seconds_left())
                self._phase = _RUNNING  # what the answers queue is run next: nobody has to wake this thread for it
                journal.settle(answers)
                if caller is not None and caller.is_done:
                    return  # the core's own thread does the rest
            elif not self._ready and not self._posted:
                return

    def _run_posted(self) -> None:
        posted = self._posted
        for _ in range(len(posted)):  # work that these post waits until mailboxes had their turn
            work = posted.popleft()
            try:
                work()
            except BaseException as error:  # the core outlives every exception
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
        """End the core once it has no work left. Returns whether it ended within `timeout` seconds.

        If it did not, appends in flight fail with OutcomeUnknown. May be called again, to wait for longer.
        """
        self._closed = True
        self._wake_up.ring()
        self._thread.join(timeout)
        ended = not self._thread.is_alive()
        if not ended:
            self._journal.give_up()
            self._thread.join(_GIVE_UP_SECONDS)
        if not self._thread.is_alive():
            self._journal.close()
        return ended


class _Bell:
    """Wakes one thread, now or when it next waits. Thread-safe, also where a signal's handler raises in between.

    `threading.Event` is not: its own lock stays locked where an exception comes right after it was taken.
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = allocate_lock()
        self._silent.acquire()

    def ring(self) -> None:
        if self._silent.locked():  # else it rings already, as mostly while messages arrive in a row
            with suppress(RuntimeError):  # another thread was quicker
                self._silent.release()

    def wait(self) -> None:
        self._silent.acquire()


class _Guest(Protocol):
    """A thread that runs the core, and has other things to do."""

    @property
    def is_done(self) -> bool:
        """Whether it can leave at once."""
        ...

    def should_stop(self) -> bool: ...

    def seconds_left(self) -> float | None: ...


@define(eq=False, repr=False)
class _Caller:
    """A caller that runs the core while it waits for its reply."""

    reply: Reply
    deadline: float | None
    shield: SignalShield

    @property
    def is_done(self) -> bool:
        return self.reply.done

    def should_stop(self) -> bool:
        return (
            self.reply.done or bool(self.shield.caught) or (self.deadline is not None and monotonic() >= self.deadline)
        )

    def seconds_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())


@define(eq=False, repr=False)
class _Visitor:
    """A thread that runs the core for what it has brought."""

    deadline: float
    is_done: bool = False

    def should_stop(self) -> bool:
        return monotonic() >= self.deadline

    def seconds_left(self) -> float:
        return max(0.0, self.deadline - monotonic())
