"""Who sends a message: code of an agent's handler leaves its mark on what it sends."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from duramen.events.model import EXTERNAL, Cause

__all__ = ["bind_cause", "current_cause", "with_cause"]

_SENDER: Final[ContextVar[Callable[[], Cause] | None]] = ContextVar("duramen_sender", default=None)
"""What a message carries that is sent now. Coroutines, and tasks they start, have it from who started them."""


def current_cause() -> Cause:
    """What a message carries that is sent from here."""
    cause = _SENDER.get()
    return EXTERNAL if cause is None else cause()


@contextmanager
def with_cause(cause: Callable[[], Cause]) -> Generator[None]:
    """Let all messages that are sent in this block carry what `cause` says at that moment."""
    token = _SENDER.set(cause)
    try:
        yield
    finally:
        _SENDER.reset(token)


def bind_cause(effect: Callable[[], object]) -> Callable[[], object]:
    """`effect`, to be called later, whose messages carry what they would carry now."""
    cause = current_cause()

    def run() -> object:
        with with_cause(lambda: cause):
            return effect()

    return run
