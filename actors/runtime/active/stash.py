"""Messages that wait, in this process's memory, for the resume of their agent or the end of its exclusive work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from duramen.events.log import Head
from duramen.events.logging import get_logger

from ...dispatch import Envelope
from ...handlers import Services

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two readings of the agent's head, while it has stashed messages."""


class Stash:
    """The stashed messages of one agent. Used in the core.

    Another process may resume or end the agent. Nothing tells this one, so as long as it has stashed messages it reads
    the agent's head now and then, and calls `moved` in the core when `is_behind` says so of it.
    """

    __slots__ = ("_envelopes", "_is_behind", "_is_waiting", "_moved", "_path", "_pause", "_services")

    def __init__(
        self, services: Services, path: str, is_behind: Callable[[Head | None], bool], moved: Callable[[], None]
    ) -> None:
        self._services = services
        self._path = path
        self._is_behind = is_behind
        self._moved = moved
        self._envelopes: list[Envelope] = []
        self._pause = _FIRST_PAUSE
        self._is_waiting = False  # for the next reading, which is one at a time

    def __len__(self) -> int:
        return len(self._envelopes)

    def add(self, envelope: Envelope) -> None:
        """Stash a message."""
        self._envelopes.append(envelope)
        self._pause = _FIRST_PAUSE
        if not self._is_waiting:
            self._wait()

    def withdraw(self, is_it: Callable[[Envelope], bool]) -> Envelope | None:
        """Take out the message for which `is_it` is true; None if there is none."""
        for envelope in filter(is_it, self._envelopes):
            self._envelopes.remove(envelope)
            return envelope
        return None

    def clear(self) -> list[Envelope]:
        """Return all messages, in order; the stash is empty then."""
        envelopes, self._envelopes = self._envelopes, []
        return envelopes

    def _wait(self) -> None:
        self._is_waiting = True
        self._services.timers.call_later(self._pause, self._start_reading)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def _start_reading(self) -> None:
        try:
            self._services.activations.submit(self._read_head)
        except RuntimeError:  # no more threads now
            self._services.dispatcher.post(lambda: self._go_on(moved=False))

    def _read_head(self) -> None:
        """Compare the agent's head with its state here; in a worker thread, since reading may block."""
        moved = False
        try:
            moved = self._is_behind(self._services.log.head(self._path))
        except Exception as error:  # a lost server: a later reading may do
            get_logger("agent").debug("stash_not_checked", agent=self._path, error=type(error).__name__)
        self._services.dispatcher.post(lambda: self._go_on(moved=moved))

    def _go_on(self, *, moved: bool) -> None:
        self._is_waiting = False
        if not self._envelopes:
            return
        if moved:
            self._moved()
        if self._envelopes and not self._is_waiting:
            self._wait()
