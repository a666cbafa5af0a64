"""A shield defers signal handlers that could raise in the middle of a turn."""

from __future__ import annotations

import signal
import threading
from _thread import get_ident
from collections.abc import Callable
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SHIELDED: Final = tuple(
    int(getattr(signal, name))
    for name in ("SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF", "SIGINT")
    if hasattr(signal, name)
)
"""Signals that programs handle. Ctrl-C is last, so that its handler is put back last."""

Handler = Callable[[int, FrameType | None], object]

# The C functions: those of `signal` turn numbers into enums at each call (13 µs a shield, against 1.5).
_raw: Final[Any] = import_module("_signal")
_get: Final[Callable[[int], object]] = _raw.getsignal
_put: Final[Callable[[int, Handler], object]] = _raw.signal


class SignalShield:
    """In a `with` block of the main thread, signal handlers are called only when the block has ended.

    Python calls handlers in the main thread, between any two instructions; one that raises, as Ctrl-C's does, would
    leave half a turn. A signal adds its number to `caught` and calls `wake`. In other threads, where Python calls no
    handlers, the block does nothing. Costs about 2 µs.
    """

    __slots__ = ("_handlers", "_wake", "caught")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._handlers: list[tuple[int, Handler]] = []
        self.caught: list[int] = []

    def __enter__(self) -> Self:
        if get_ident() == threading.main_thread().ident:
            for number, handler in zip(_SHIELDED, map(_get, _SHIELDED), strict=True):
                if type(handler) is not int and callable(handler):  # most are ints: left to the system, or ignored
                    self._handlers.append((number, handler))
            try:
                for number, _ in self._handlers:
                    _put(number, self._catch)
            except BaseException:  # a handler that was not replaced yet raised
                self._restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        """Put all handlers back, then call those whose signals were caught."""
        try:
            for number, handler in self._handlers:
                _put(number, handler)
            while self.caught:
                number = self.caught.pop(0)
                dict(self._handlers)[number](number, None)
        except BaseException:  # a handler raised: the others are put back and called all the same
            self._restore()
            raise

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught.append(number)
        self._wake()
