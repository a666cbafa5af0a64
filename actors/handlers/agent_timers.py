"""The timers of one agent: gone with its session or its activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duramen.events.model import copy_plain

from ..dispatch import Envelope, Timer, current_cause

if TYPE_CHECKING:
    from .services import Services

__all__ = ["AgentTimers"]


class AgentTimers:
    """Sends messages to an agent later. Timers live in memory only."""

    __slots__ = ("_path", "_services", "_timers")

    def __init__(self, services: Services, path: str) -> None:
        self._services = services
        self._path = path
        self._timers: list[Timer] = []

    @property
    def pending(self) -> bool:
        """Whether a message is still due."""
        self._timers = [timer for timer in self._timers if not timer.done]
        return bool(self._timers)

    def add(self, seconds: float, message: object, *, repeat: bool) -> Timer:
        """Send `message` once in `seconds` seconds, or every `seconds` seconds. Callable from any thread."""
        registry, path, timers = self._services.actors, self._path, self._services.timers
        cause, template = current_cause(), copy_plain(message)

        def send() -> None:
            envelope = Envelope(copy_plain(template), wanted=False)
            envelope.cause = cause
            registry.send(path, envelope)

        timer = timers.call_every(seconds, send) if repeat else timers.call_later(seconds, send)
        self._timers.append(timer)
        return timer

    def cancel(self) -> None:
        """Cancel all timers."""
        for timer in self._timers:
            timer.cancel()
