"""The future of a message's reply: cheap to make, since every message makes one."""

from __future__ import annotations

import asyncio
import queue
import sys
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any

import pykka

from duramen.events import AskTimeout

__all__ = ["Reply"]

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Reply(pykka.Future[Any]):
    """A Pykka future without a lock of its own until somebody waits; awaitable in any event loop.

    It relies on `dict.setdefault`, `deque.append` and `deque.popleft` being atomic, as they are in CPython: a
    listener that is added while the result is set is called exactly once, by one side or the other.
    """

    # Defaults on the class: an instance holds only what happened to it.
    _get_hook = None
    _outcome: tuple[Any, BaseException | None] | None = None
    _listeners: deque[Callable[[], None]] | None = None

    def __init__(self) -> None:
        """Nothing to set up, on purpose: one is made for every message."""

    def __repr__(self) -> str:
        return f"<Reply {'done' if self.done else 'pending'}>"

    @property
    def done(self) -> bool:
        """Whether the reply, or the error, is there."""
        return self._outcome is not None

    def get(self, *, timeout: float | None = None) -> Any:
        """The reply. Blocks at most `timeout` seconds; raises AskTimeout, or the error that came in its place."""
        if self._get_hook is not None:
            self._get_hook_result = getattr(self, "_get_hook_result", pykka.Future[Any]()._get_hook_result)
            return super().get(timeout=timeout)
        if self._outcome is None:
            self._wait(timeout)
        return self._unwrap()

    def set(self, value: Any = None) -> None:
        """Hand the reply over. Raises queue.Full, as Pykka does, when there is one already."""
        self._settle(value, None)

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Hand an error over in place of the reply: that given, or the one being handled."""
        error = (exc_info or sys.exc_info())[1]
        self.fail(error if error is not None else RuntimeError("set_exception() without an exception"))

    def fail(self, error: BaseException) -> None:
        """Hand an error over in place of the reply."""
        self._settle(None, error)

    def on_done(self, listener: Callable[[], None]) -> None:
        """Call `listener` once, when the reply is there: in the thread that hands it over, or at once in this one."""
        listeners = self._listeners
        if listeners is None:
            listeners = self.__dict__.setdefault("_listeners", deque())
        listeners.append(listener)
        if self._outcome is not None:
            self._tell_listeners()

    def __await__(self) -> Generator[Any, None, Any]:
        if self._outcome is None:
            loop = asyncio.get_running_loop()
            arrived: asyncio.Future[None] = loop.create_future()

            def arrive() -> None:
                if not arrived.done():
                    arrived.set_result(None)

            def tell_loop() -> None:
                with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    loop.call_soon_threadsafe(arrive)

            self.on_done(tell_loop)
            yield from arrived
        return self._unwrap()

    __iter__ = __await__

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._outcome is not None or self._get_hook is not None:
            raise queue.Full
        self._outcome = (value, error)
        if self._listeners is not None:
            self._tell_listeners()

    def _tell_listeners(self) -> None:
        listeners = self._listeners
        while listeners:
            with suppress(IndexError):  # the other side took the last one
                listeners.popleft()()

    def _wait(self, timeout: float | None) -> None:
        latch = allocate_lock()
        latch.acquire()
        self.on_done(latch.release)
        if not latch.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise AskTimeout(
                f"no reply within {timeout} s; it may still be carried out: ask again with the same command id",
                expected=timeout,
            )

    def _unwrap(self) -> Any:
        assert self._outcome is not None
        value, error = self._outcome
        if error is not None:
            raise error
        return value
