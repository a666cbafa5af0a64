"""The timers of one agent: gone with its session or its activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from duramen.events import MailboxFull, SystemClosed
from duramen.events.model import copy_plain, parse_seconds

from ..dispatch import Envelope, Timer, current_cause

if TYPE_CHECKING:
    from .services import Services

_LEAST_INTERVAL: Final = 0.001
_CHUNK: Final = 64
"""Timers that are added between two looks for those that are done."""
_RETRY: Final = 0.1
"""Seconds after which a timer that found the mailbox full tries again."""


class AgentTimers:
    """Sends messages to an agent later. Timers live in memory only."""

    __slots__ = ("_ended", "_path", "_services", "_timers")

    def __init__(self, services: Services, path: str) -> None:
        self._services = services
        self._path = path
        self._timers: list[Timer] = []
        self._ended = 0
        """How often all timers were cancelled."""

    @property
    def pending(self) -> bool:
        """Whether a message is still due."""
        self._forget_done()
        return bool(self._timers)

    def prepare(self, seconds: object, message: object, *, repeat: bool) -> tuple[Timer, Callable[[], None]]:
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

        def start() -> None:
            if self._ended != ended:  # meanwhile the session has ended
                timer.cancel()
                return
            if len(self._timers) % _CHUNK == _CHUNK - 1:
                self._forget_done()
            self._timers.append(timer)
            self._services.timers.start(timer)

        return timer, start

    def _forget_done(self) -> None:
        self._timers = [timer for timer in self._timers if not timer.done]

    def cancel(self) -> None:
        """Cancel all timers, those too that have not started yet."""
        self._ended += 1
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()
