"""The cause of a message: a message sent by a handler carries the event that the handler reacts to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from duramen.events.model import EXTERNAL, Cause

_CAUSE: Final[ContextVar[Callable[[], Cause] | None]] = ContextVar("duramen_cause", default=None)
"""Makes the cause of a message sent in this context. Coroutines and tasks inherit it from the task that starts them."""

cause_maker: Final[Callable[[], Callable[[], Cause] | None]] = _CAUSE.get
"""What makes the cause of a message sent now; None outside handlers, where nothing of a log is the cause."""


def current_cause() -> Cause:
    """The cause of a message sent now, in this context."""
    cause = cause_maker()
    return EXTERNAL if cause is None else cause()


def set_cause(cause: Callable[[], Cause]) -> None:
    """Give messages sent in this context, from now on, the cause that `cause()` returns at that moment."""
    _CAUSE.set(cause)


@contextmanager
def with_cause(cause: Callable[[], Cause]) -> Generator[None]:
    """Give messages sent in this block the cause that `cause()` returns at that moment."""
    token = _CAUSE.set(cause)
    try:
        yield
    finally:
        _CAUSE.reset(token)


def bind_cause(effect: Callable[[], object]) -> Callable[[], object]:
    """Wrap `effect` so that messages it sends later carry the cause of now."""
    cause = current_cause()

    def run() -> object:
        with with_cause(lambda: cause):
            return effect()

    return run
