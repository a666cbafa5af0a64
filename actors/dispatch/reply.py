"""The future of a message's reply. It is cheap to make, since every message makes one."""

from __future__ import annotations

import asyncio
import queue
import sys
from _thread import allocate_lock
from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Final

import pykka

from duramen.events import AskTimeout
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import Seconds, WithContents, parse_timeout

from .call_cycles import WaiterSlot, current_waiter, waiting_for
from .event_loop import check_may_await, check_may_block

_SHORT: Final = 1_000_000
"""Seconds that a thread can wait on every platform."""

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
Callback = Callable[[], None]


class Reply(pykka.Future[Any]):
    """A Pykka future without a lock of its own; awaitable in any event loop.

    Handing over a result takes no lock unless there are callbacks. One lock, shared by all replies and held for a few
    instructions, makes sure that a callback added at that moment is called exactly once.
    """

    __slots__ = ("_callbacks", "_done", "error", "mailbox", "result")

    _callback_lock: ClassVar[Any] = allocate_lock()
    late: Callable[[Any], Any] | None = None
    """What makes the value of a reply `WithContents`, in the thread that takes it; set where that is handed over."""

    _get_hook = None  # on the class: Pykka's `map`, `filter` and the like set it on their own instances

    def __init__(self) -> None:
        self._done = False
        self.result: Any = None
        """The reply; valid only once `done`."""
        self.error: BaseException | None = None
        """The error in its place; valid only once `done`."""
        self._callbacks: list[Callback] | None = None
        self.mailbox: WaiterSlot | None = None
        """The mailbox of the agent that gives the reply, once the message is in it."""

    def __repr__(self) -> str:
        return f"<Reply {'done' if self._done else 'pending'}>"

    @property
    def done(self) -> bool:
        """Whether the reply or the error has arrived."""
        return self._done

    @property
    def value(self) -> Any:
        """The reply; None while pending and after an error. Texts and bytes beside the log are loaded, which blocks."""
        return self._unwrap() if self._done and self.error is None else None

    def get(self, *, timeout: Seconds | None = None) -> Any:
        """Return the reply. Blocks at most `timeout` (seconds, or a timedelta).

        Raises InvalidMessage, AskTimeout, CallCycle and LoopBlocked where no reply can come, or the error in its place.
        """
        if timeout is None or (type(timeout) is int and 0 <= timeout <= _SHORT):  # mostly: saves a call
            seconds: float | None = timeout
        else:
            seconds = parse_timeout(timeout)
        if self._get_hook is not None:
            return self._get_hook(seconds)
        if not self._done:
            self._wait(seconds, None if seconds is None else float(seconds))
        if self.error is not None or self.late is not None:
            return self._unwrap()
        return self.result

    def get_within(self, left: float | None, asked: float | None) -> Any:
        """As `get`, with `left` seconds remaining of the `asked` ones, which AskTimeout names."""
        if not self._done:
            self._wait(left, asked)
        return self._unwrap()

    def set(self, value: Any = None) -> None:
        """Hand over the reply. Raises queue.Full, as Pykka does, when there is an outcome already."""
        if self._done or self._get_hook is not None:
            raise queue.Full
        self.result = value
        self.error = None
        self._done = True  # last: readers check it first
        if self._callbacks is not None:
            self._call_back()

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Hand over an error in place of the reply: the given one, or the exception being handled."""
        error = (exc_info or sys.exc_info())[1]
        self.fail(error if error is not None else RuntimeError("set_exception() without an exception"))

    def fail(self, error: BaseException) -> None:
        """Hand over an error in place of the reply. Raises queue.Full when there is an outcome already."""
        if self._done or self._get_hook is not None:
            raise queue.Full
        self.result = None
        self.error = error
        self._done = True
        if self._callbacks is not None:
            self._call_back()

    def add_done_callback(self, callback: Callback) -> None:
        """Call `callback` once: in the thread that hands the reply over, or at once in this one if it has arrived."""
        with self._callback_lock:
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append(callback)
        # The other side sets `_done` before it reads the callbacks; this one adds a callback before it reads `_done`.
        if self._done:
            self._call_back()

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done:
            check_may_await()
            loop = asyncio.get_running_loop()
            arrived: asyncio.Future[None] = loop.create_future()

            def arrive() -> None:
                if not arrived.done():
                    arrived.set_result(None)

            def wake_loop() -> None:
                with suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(arrive)

            with waiting_for(self):
                self.add_done_callback(wake_loop)
                yield from arrived
        if type(self.result) is WithContents:  # which takes round trips
            return (yield from asyncio.to_thread(self._unwrap).__await__())
        return self._unwrap()

    __iter__ = __await__

    def _call_back(self) -> None:
        with self._callback_lock:
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception as error:  # neither the others' trouble nor that of the thread which hands over
                get_logger("reply").error("callback_failed", error=type(error).__name__, at=raised_at(error))

    def _wait(self, left: float | None, asked: float | None) -> None:
        check_may_block()
        latch = allocate_lock()
        latch.acquire()
        self.add_done_callback(latch.release)
        patience = -1 if left is None else max(0.0, left)
        if current_waiter() is None:  # no handler waits here, so that no circle can close
            arrived = latch.acquire(timeout=patience)
        else:
            with waiting_for(self):
                arrived = latch.acquire(timeout=patience)
        if not arrived:
            raise AskTimeout(
                f"no reply within {asked} s; it may still be carried out: ask again with the same command id",
                expected=asked,
            )

    def _unwrap(self) -> Any:
        if self.error is not None:
            raise self.error
        result = self.result
        if self.late is not None and type(result) is WithContents:
            return self.late(result)
        return result
