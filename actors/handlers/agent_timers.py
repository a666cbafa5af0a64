"""The timers of one agent: gone with its session or its activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from duramen.events import MailboxFull, SystemClosed
from duramen.events.model import copy_plain, parse_seconds

from ..dispatch import Envelope, Timer, current_cause

if TYPE_CHECKING:
    from .services import Services

_LEAST_INTERVAL: Final = 0.001
_CHUNK: Final = 64
"""Timers that are added before those that are done are forgotten."""
_RETRY: Final = 0.1
"""Seconds after which a timer that found the mailbox full tries again."""


class AgentTimers:
    """Sends messages to an agent later. Timers live in memory only."""

    __slots__ = ("_ended", "_path", "_services", "_timers")

    def __init__(self, services: Services, path: str) -> None:
        self._services = services
        self._path = path
        self._timers: set[Timer] = set()
        """Those pending, and some that are done. Threads of the user's add to it: use single operations only."""
        self._ended = 0
        """How often all timers were cancelled."""

    @property
    def pending(self) -> bool:
        """Whether a message is still due."""
        self._forget_done()
        return bool(self._timers)

    def prepare(self, seconds: object, message: object, *, repeat: bool) -> tuple[Timer, TimerStart]:
        """Make a timer that sends `message` once in `seconds` seconds, or every so many, and what starts it.

        Raises InvalidMessage. Callable from any thread, as what it returns. A timer that finds the mailbox full tries
        again; a repeated one has its next time anyway.
        """
        interval = parse_seconds("seconds", seconds, least=_LEAST_INTERVAL if repeat else 0.0)
        actors, path, ended = self._services.actors, self._path, self._ended
        cause, template = current_cause(), copy_plain(message)

        def send() -> float | None:
            envelope = Envelope(copy_plain(template), wanted=False)
            envelope.cause = cause
            try:
                actors.send(path, envelope)
            except MailboxFull:
                return _RETRY
            except SystemClosed:
                timer.cancel()
            return None

        timer = Timer(send, self._services.timers.now() + interval, interval if repeat else None)

        return timer, TimerStart(self, timer, ended)

    def start(self, timer: Timer, ended: int) -> None:
        """Let a timer run, unless all timers were cancelled after it was prepared."""
        if self._ended != ended:  # meanwhile the session has ended
            timer.cancel()
            return
        if len(self._timers) % _CHUNK == _CHUNK - 1:
            self._forget_done()
        self._timers.add(timer)
        self._services.timers.start(timer)

    def _forget_done(self) -> None:
        for timer in list(self._timers):
            if timer.done:
                self._timers.discard(timer)

    def cancel(self) -> None:
        """Cancel all timers, those too that have not started yet."""
        self._ended += 1
        timers, self._timers = self._timers, set()
        for timer in timers:
            timer.cancel()


class TimerStart:
    """Starts a prepared timer. It does not block.

    The core calls it at the commit, not a worker thread after it: the agent must not be taken for one without timers.
    """

    __slots__ = ("_ended", "_timer", "_timers")

    def __init__(self, timers: AgentTimers, timer: Timer, ended: int) -> None:
        self._timers = timers
        self._timer = timer
        self._ended = ended

    def __call__(self) -> None:
        self._timers.start(self._timer, self._ended)
