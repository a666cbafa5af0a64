"""Calling a function for what a subscription takes in: one call at a time, in order, in a thread of a pool."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Any, Protocol, cast

from attrs import frozen

from duramen.events.logging import get_logger, raised_at

from .buffer import Item
from .change import Change
from .intake import Intake

__all__ = ["Callbacks", "Delivery", "OnError", "Runs"]

OnError = Callable[[BaseException, Change | None], object]
"""Told what a callback raised and for which change, or, with None, why the subscription has ended."""


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


@frozen(kw_only=True)
class Delivery:
    """How the function is to be called."""

    batches: bool = False
    every: float = 0.0
    on_error: OnError | None = None
    stop_on_failure: bool = False


class Callbacks:
    """Delivers one intake to one function. `wake` is called when there may be something to do."""

    def __init__(self, intake: Intake, function: Callable[[Any], Any], manner: Delivery, runs: Runs) -> None:
        self._intake = intake
        self._function = function
        self._manner = manner
        self._runs = runs
        self._is_async = _is_async(function)
        self._busy = False
        self._told = False
        self._alarm_set = False
        self._next_burst = 0.0
        self._thread: int | None = None
        self.failures = 0

    def wake(self) -> None:
        """Start to deliver, unless that is under way. Quick, from any thread."""
        with self._intake.changed:
            if self._busy or not self._has_work():
                return
            if monotonic() < self._next_burst and not self._intake.ended:
                if not self._alarm_set:
                    self._alarm_set = True
                    self._runs.at(self._next_burst, self._ring)
                return
            self._busy = True
        if self._is_async:
            self._runs.start(self._run_async())
        else:
            self._runs.submit(self._run)

    def wait(self, timeout: float) -> bool:
        """Wait until no call is under way, at most `timeout` seconds; not for a call that this one comes from."""
        with self._intake.changed:
            if self._thread == threading.get_ident():
                return True
            return self._intake.changed.wait_for(lambda: not self._busy, timeout)

    def after_fork(self) -> None:
        """In a forked child: the thread that called is not here."""
        self._busy = False

    def _ring(self) -> None:
        with self._intake.changed:
            self._alarm_set = False
        self.wake()

    def _has_work(self) -> bool:
        intake = self._intake
        if intake.closed:
            return False
        return intake.backlog.waiting > 0 or (intake.error is not None and not self._told)

    # -- where the function runs -------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = threading.get_ident()
        try:
            for items in self._bursts():
                for part in self._parts(items):
                    try:
                        result = self._function(self._given(part))
                        # What does not look like a coroutine's function may be one.
                        if result is not None and inspect.isawaitable(result):
                            self._runs.start(_awaited(result)).result()
                    except BaseException as error:  # a SystemExit too ends no thread of others
                        if not self._failed(error, part):
                            break
                    self._intake.done(part)
        finally:
            self._rest()
        self.wake()

    async def _run_async(self) -> None:
        self._thread = threading.get_ident()
        try:
            for items in self._bursts():
                for part in self._parts(items):
                    try:
                        await self._function(self._given(part))
                    except BaseException as error:
                        task = asyncio.current_task()
                        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                            raise  # the loop ends
                        if not self._failed(error, part):
                            break
                    self._intake.done(part)
                await asyncio.sleep(0)  # a function that never waits must not keep the loop from others
        finally:
            self._rest()
        self.wake()

    def _bursts(self) -> Iterator[list[Item]]:
        """What waits, again and again until there is nothing, or until a pause is due."""
        intake, pause = self._intake, self._manner.every
        while True:
            with intake.changed:
                if not self._has_work():
                    return
                error = intake.error if intake.backlog.waiting == 0 else None
                if error is None:
                    items = intake.take()
                    self._next_burst = monotonic() + pause
                else:
                    self._told = True
                    items = []
            if error is not None:
                self._tell(error, None)
                return
            yield items
            if pause:
                return

    def _parts(self, items: list[Item]) -> Iterator[Sequence[Item]]:
        """What one call gets. Stops when the subscription is closed."""
        for part in [items] if self._manner.batches else zip(items, strict=True):
            if self._intake.closed:
                return
            yield part

    def _given(self, part: Sequence[Item]) -> Any:
        return [item.change for item in part] if self._manner.batches else part[0].change

    def _rest(self) -> None:
        with self._intake.changed:
            self._busy = False
            self._thread = None
            self._intake.changed.notify_all()

    # -- failures ------------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException, part: Sequence[Item]) -> bool:
        """Whether to go on. Types and places only are logged: the text of an exception may quote the event."""
        change = part[0].change
        self.failures += 1
        get_logger("subscription").warning(
            "callback_failed",
            pattern=self._intake.interest.pattern.text,
            agent=change.agent,
            seq=change.seq,
            error=type(error).__name__,
            at=raised_at(error),
        )
        self._tell(error, change)
        if self._manner.stop_on_failure:
            self._told = True
            self._intake.stop_at(error)
            return False
        return True

    def _tell(self, error: BaseException, change: Change | None) -> None:
        told = self._manner.on_error
        if told is None:
            return
        try:
            result = told(error, change)
            if inspect.isawaitable(result):
                self._runs.start(_awaited(result))
        except BaseException as own:
            get_logger("subscription").warning("on_error_failed", error=type(own).__name__, at=raised_at(own))


async def _awaited(result: Any) -> Any:
    return await result


def _is_async(function: Callable[[Any], Any]) -> bool:
    kind = cast("Any", type(function))  # an object may be called through an `async def __call__`
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(kind.__call__)
