"""The future of a message's reply: cheap to make, since every message makes one."""

from __future__ import annotations

import asyncio
import queue
import sys
from _thread import allocate_lock
from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar

import pykka

from duramen.events import AskTimeout

__all__ = ["Reply"]

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
Listener = Callable[[], None]


class Reply(pykka.Future[Any]):
    """A Pykka future without a lock of its own; awaitable in any event loop.

    Handing a result over takes no lock unless somebody listens. One lock, shared by all replies and held for a few
    instructions, makes sure that a listener that comes at the same moment is called exactly once.
    """

    __slots__ = ("_done", "_listeners", "kept", "refusal")

    _listening: ClassVar[Any] = allocate_lock()
    _get_hook = None  # on the class: Pykka's `map`, `filter` and the like set it on their own instances

    def __init__(self) -> None:
        self._done = False
        self.kept: Any = None
        """The reply, which counts only once it is done."""
        self.refusal: BaseException | None = None
        """The error in its place."""
        self._listeners: list[Listener] | None = None

    def __repr__(self) -> str:
        return f"<Reply {'done' if self._done else 'pending'}>"

    @property
    def done(self) -> bool:
        """Whether the reply, or the error, is there."""
        return self._done

    @property
    def value(self) -> Any:
        """The reply, if it is there and no error; else None."""
        return self.kept if self._done else None

    def get(self, *, timeout: float | None = None) -> Any:
        """The reply. Blocks at most `timeout` seconds; raises AskTimeout, or the error that came in its place."""
        if self._get_hook is not None:
            return self._get_hook(timeout)
        if not self._done:
            self._wait(timeout, timeout)
        if self.refusal is not None:
            raise self.refusal
        return self.kept

    def get_by(self, left: float | None, asked: float | None) -> Any:
        """As `get` with a time-out of `left` seconds, what is left of the `asked` ones that an error names."""
        if not self._done:
            self._wait(left, asked)
        return self._unwrap()

    def set(self, value: Any = None) -> None:
        """Hand the reply over. Raises queue.Full, as Pykka does, when there is one already."""
        if self._done or self._get_hook is not None:
            raise queue.Full
        self.kept = value
        self.refusal = None
        self._done = True  # last: who sees it may read the rest
        if self._listeners is not None:
            self._tell_listeners()

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Hand an error over in place of the reply: that given, or the one being handled."""
        error = (exc_info or sys.exc_info())[1]
        self.fail(error if error is not None else RuntimeError("set_exception() without an exception"))

    def fail(self, error: BaseException) -> None:
        """Hand an error over in place of the reply."""
        if self._done or self._get_hook is not None:
            raise queue.Full
        self.kept = None
        self.refusal = error
        self._done = True
        if self._listeners is not None:
            self._tell_listeners()

    def on_done(self, listener: Listener) -> None:
        """Call `listener` once, when the reply is there: in the thread that hands it over, or at once in this one."""
        with self._listening:
            if self._listeners is None:
                self._listeners = []
            self._listeners.append(listener)
        # The other side sets `_done` before it looks for listeners, and this one the other way round.
        if self._done:
            self._tell_listeners()

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done:
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

    def _tell_listeners(self) -> None:
        with self._listening:
            listeners, self._listeners = self._listeners, None
        for listener in listeners or ():
            listener()

    def _wait(self, left: float | None, asked: float | None) -> None:
        latch = allocate_lock()
        latch.acquire()
        self.on_done(latch.release)
        if not latch.acquire(timeout=-1 if left is None else max(0.0, left)):
            raise AskTimeout(
                f"no reply within {asked} s; it may still be carried out: ask again with the same command id",
                expected=asked,
            )

    def _unwrap(self) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return self.kept
