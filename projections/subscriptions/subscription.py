"""What `subscribe` returns: changes as they come, by a callback or by iterating."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Final, Self

from duramen.events import Cursor, InvalidMessage, PathPattern
from duramen.events.model import Seconds, parse_seconds, parse_timeout

from .buffer import Item
from .callbacks import Callbacks
from .change import Change
from .intake import Intake

_CLOSE_SECONDS: Final = 5.0


class Subscription:
    """Changes of agents' state and lifecycle as they are committed, each once, in the order of each agent's log.

    With a callback, it is called in a thread of a pool (an `async def` one on the system's event loop), one call at a
    time. Without, iterate: `for change in subscription`, `async for`, or `batches()` for lists; one iteration at a
    time. It ends when it is closed, by itself or with its system; iterators then stop. Where the log itself is at fault
    it ends with a typed error: `Trimmed`, `Diverged`, `DataLoss`, `CorruptEvent`, `UnknownEventType`, `NotPermitted`.
    Iterators raise that after what came before it; `error` has it. A server that cannot be reached ends nothing.

    Use it in a `with` or `async with` block, or close it. Thread-safe.
    """

    def __init__(
        self,
        intake: Intake,
        callbacks: Callbacks | None,
        leave: Callable[[Subscription], None],
    ) -> None:
        self._intake = intake
        self._callbacks = callbacks
        self._leave = leave
        self._next_burst = 0.0
        self._popped: deque[Item] = deque()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        intake.wake = self._wake

    def __repr__(self) -> str:
        return f"<Subscription {self.pattern} {'closed' if self.closed else 'open'}>"

    @property
    def pattern(self) -> PathPattern:
        """The pattern that it was made with."""
        return self._intake.event_filter.pattern

    @property
    def cursor(self) -> Cursor:
        """The cursor after all that was delivered: `subscribe(..., after=cursor)` continues with the very next change.

        A callback's change counts when the callback has returned; an iterator's when it was handed out.
        """
        return self._intake.cursor()

    @property
    def lag(self) -> int:
        """How far it is behind: changes that wait, and appends of the log that it has not read.

        The end of the log is up to a second old.
        """
        return self._intake.lag()

    @property
    def error(self) -> BaseException | None:
        """The error that it has ended with; None while it runs, and if it was closed."""
        return self._intake.error

    @property
    def closed(self) -> bool:
        """Whether it has ended: nothing more will come in."""
        return self._intake.ended

    @property
    def failures(self) -> int:
        """How many calls of the callback have raised."""
        return self._callbacks.failures if self._callbacks else 0

    def close(self, timeout: Seconds = _CLOSE_SECONDS) -> bool:
        """Deliver nothing more, and wait at most `timeout` seconds for a running callback; whether none runs.

        May be called twice. The callback itself may call it, and is then not waited for.
        """
        seconds = parse_seconds("timeout", timeout)
        self._intake.end()
        self._wake()
        return self._callbacks is None or self._callbacks.wait(seconds)

    async def aclose(self, timeout: Seconds = _CLOSE_SECONDS) -> bool:
        """As `close`, without blocking the event loop."""
        return await asyncio.to_thread(self.close, timeout)

    def after_fork(self, error: BaseException) -> None:
        """End, in a forked child."""
        self._intake.after_fork(error)
        self._waiters = []
        if self._callbacks is not None:
            self._callbacks.after_fork()

    # -- changes -------------------------------------------------------------------------------------------------------

    def take(self, most: int | None = None, timeout: Seconds | None = None) -> list[Change]:
        """The changes that have come in, at most `most`; waits at most `timeout` seconds for the first.

        Empty when the time is up, and after the end. Raises the error that it has ended with.
        """
        return self._changes(self._wait(most, parse_timeout(timeout)))

    def batches(self) -> Batches:
        """An iterator, plain or asynchronous, over lists of the changes that have come in; none is empty."""
        return Batches(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        if not self._popped or self._intake.closed:
            self._popped = deque(self._wait(None, None))
        if not self._popped:
            raise StopIteration
        return self._next_popped()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        if not self._popped or self._intake.closed:
            self._popped = deque(await self._await_items())
        if not self._popped:
            raise StopAsyncIteration
        return self._next_popped()

    def next_batch(self) -> list[Change]:
        """The next list of `batches()`."""
        return self.take()

    async def anext_batch(self) -> list[Change]:
        """The next list of `batches()`, for asyncio."""
        return self._changes(await self._await_items())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._intake.ended:
            self._leave(self)
        if self._callbacks is not None:
            self._callbacks.wake()
            return
        with self._intake.changed:
            waiters, self._waiters = self._waiters, []
            self._intake.changed.notify_all()
        for loop, waiter in waiters:
            with suppress(RuntimeError):  # the loop has ended, and its waiting tasks with it
                loop.call_soon_threadsafe(_resolve, waiter)

    def _wait(self, most: int | None, timeout: float | None) -> list[Item]:
        """Items, at least one; none at the end and when time is up."""
        deadline = None if timeout is None else monotonic() + timeout
        intake = self._intake
        with intake.changed:
            while True:
                items, pause = self._pop(most)
                if items or intake.closed:
                    return items
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return []
                intake.changed.wait(min((value for value in (left, pause) if value is not None), default=None))

    async def _await_items(self) -> list[Item]:
        intake = self._intake
        if intake.buffer.waiting:  # an iteration that never waits must not block the loop
            await asyncio.sleep(0)
        while True:
            loop = asyncio.get_running_loop()
            with intake.changed:
                items, pause = self._pop(None)
                if items or intake.closed:
                    return items
                waiter = loop.create_future()
                self._waiters.append((loop, waiter))
            try:
                await asyncio.wait((waiter,), timeout=pause)
            finally:
                with intake.changed:
                    self._waiters = [known for known in self._waiters if known[1] is not waiter]

    def _pop(self, most: int | None) -> tuple[list[Item], float | None]:
        """With the lock held: the items that wait, or the seconds until the next burst. Raises the error of the end."""
        if self._callbacks is not None:
            raise InvalidMessage("this subscription delivers to its callback; make one without to iterate")
        intake = self._intake
        if intake.closed:
            return [], None
        if not intake.buffer.waiting:
            if intake.error is not None:
                raise intake.error
            return [], None
        now = monotonic()
        if now < self._next_burst and intake.error is None:
            return [], self._next_burst - now
        self._next_burst = now + intake.delivery.every
        return intake.buffer.pop(most), None

    def _changes(self, items: list[Item]) -> list[Change]:
        if items:
            self._intake.confirm(items)
        return [item.hand_out() for item in items]

    def _next_popped(self) -> Change:
        item = self._popped.popleft()
        self._intake.confirm([item])
        return item.hand_out()


class Batches:
    """An iterator over lists of changes of one subscription, as they come in."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Change]:
        changes = self._subscription.next_batch()
        if not changes:
            raise StopIteration
        return changes

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Change]:
        changes = await self._subscription.anext_batch()
        if not changes:
            raise StopAsyncIteration
        return changes


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
