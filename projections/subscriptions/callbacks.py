"""Calling a function with the changes of a subscription: one call at a time, in order, in a thread of a pool."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Any, Protocol, cast

from duramen.events.logging import get_logger, raised_at

from .buffer import Item
from .change import Change
from .intake import Intake


class Runs(Protocol):
    """Where callbacks run."""

    def submit(self, work: Callable[[], None], /) -> None:
        """Run `work` in a thread that has nothing else to do."""
        ...

    def start(self, work: Coroutine[Any, Any, Any], /) -> Future[Any]:
        """Start a coroutine on an event loop."""
        ...

    def at(self, when: float, call: Callable[[], None], /) -> None:
        """Call something quick at a time of `monotonic`."""
        ...


class Callbacks:
    """Delivers one intake to one function. `wake` is called when there may be something to do."""

    def __init__(self, intake: Intake, function: Callable[[Any], Any], runs: Runs) -> None:
        self._intake = intake
        self._function = function
        self._delivery = intake.delivery
        self._runs = runs
        self._is_async = _is_async(function)
        self._busy = False
        self._end_reported = False
        self._has_timer = False
        self._next_burst = 0.0
        self._thread: int | None = None
        self.failures = 0

    def wake(self) -> None:
        """Start to deliver, unless that is under way. Quick, from any thread."""
        with self._intake.changed:
            if self._busy or not self._has_work():
                return
            if monotonic() < self._next_burst and not self._intake.ended:
                if not self._has_timer:
                    self._has_timer = True
                    self._runs.at(self._next_burst, self._end_pause)
                return
            self._busy = True
        if self._is_async:
            self._runs.start(self._run_async())
        else:
            self._runs.submit(self._run)

    def wait(self, timeout: float) -> bool:
        """Wait until no call is under way, at most `timeout` seconds. Returns at once in the callback itself."""
        with self._intake.changed:
            if self._thread == threading.get_ident():
                return True
            return self._intake.changed.wait_for(lambda: not self._busy, timeout)

    def after_fork(self) -> None:
        """Forget the call under way, in a forked child: its thread lives in the parent."""
        self._busy = False

    def _end_pause(self) -> None:
        with self._intake.changed:
            self._has_timer = False
        self.wake()

    def _has_work(self) -> bool:
        intake = self._intake
        if intake.closed:
            return False
        return intake.buffer.waiting > 0 or (intake.error is not None and not self._end_reported)

    # -- where the function runs -------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = threading.get_ident()
        try:
            for items in self._bursts():
                for part in self._parts(items):
                    try:
                        result = self._function(self._argument(part))
                        # A plain function may still return an awaitable.
                        if result is not None and inspect.isawaitable(result):
                            self._runs.start(_awaited(result)).result()
                    except BaseException as error:  # even a SystemExit must not end a thread of the pool
                        if not self._handle_failure(error, part):
                            break
                    self._intake.confirm(part)
        finally:
            self._end_run()
        self.wake()

    async def _run_async(self) -> None:
        self._thread = threading.get_ident()
        try:
            for items in self._bursts():
                for part in self._parts(items):
                    try:
                        await self._function(self._argument(part))
                    except BaseException as error:
                        task = asyncio.current_task()
                        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                            raise  # the loop ends
                        if not self._handle_failure(error, part):
                            break
                    self._intake.confirm(part)
                await asyncio.sleep(0)  # a function that never waits must not block the loop
        finally:
            self._end_run()
        self.wake()

    def _bursts(self) -> Iterator[list[Item]]:
        """The changes that wait, again and again until there are none, or until a pause is due."""
        intake, pause = self._intake, self._delivery.every
        while True:
            with intake.changed:
                if not self._has_work():
                    return
                error = intake.error if intake.buffer.waiting == 0 else None
                if error is None:
                    items = intake.buffer.pop()
                    self._next_burst = monotonic() + pause
                else:
                    self._end_reported = True
                    items = []
            if error is not None:
                self._report(error, None)
                return
            yield items
            if pause:
                return

    def _parts(self, items: list[Item]) -> Iterator[Sequence[Item]]:
        """The items of each call. Stops when the subscription is closed."""
        for part in [items] if self._delivery.batches else zip(items, strict=True):
            if self._intake.closed:
                return
            yield part

    def _argument(self, part: Sequence[Item]) -> Any:
        return [item.hand_out() for item in part] if self._delivery.batches else part[0].hand_out()

    def _end_run(self) -> None:
        with self._intake.changed:
            self._busy = False
            self._thread = None
            self._intake.changed.notify_all()

    # -- failures ------------------------------------------------------------------------------------------------------

    def _handle_failure(self, error: BaseException, part: Sequence[Item]) -> bool:
        """Whether to go on. Only types and places are logged: the text of an exception may quote the event."""
        change = part[0].change
        self.failures += 1
        get_logger("subscription").warning(
            "callback_failed",
            pattern=self._intake.event_filter.pattern.text,
            agent=change.agent,
            seq=change.seq,
            error=type(error).__name__,
            at=raised_at(error),
        )
        self._report(error, change)
        if self._delivery.stop_on_failure:
            self._end_reported = True
            self._intake.stop(error)
            return False
        return True

    def _report(self, error: BaseException, change: Change | None) -> None:
        on_error = self._delivery.on_error
        if on_error is None:
            return
        try:
            result = on_error(error, change)
            if inspect.isawaitable(result):
                self._runs.start(_awaited(result))
        except BaseException as own:
            get_logger("subscription").warning("on_error_failed", error=type(own).__name__, at=raised_at(own))


async def _awaited(result: Any) -> Any:
    return await result


def _is_async(function: Callable[[Any], Any]) -> bool:
    kind = cast("Any", type(function))  # an object may be called through an `async def __call__`
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(kind.__call__)
