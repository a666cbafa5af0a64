"""A projection attached to the log under a durable name: what its user holds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from copy import copy
from time import monotonic
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from attrs import frozen

from duramen.events import (
    AskTimeout,
    ConsumerParked,
    DuramenError,
    Fenced,
    InvalidMessage,
    Receipt,
    SystemClosed,
    Unavailable,
)
from duramen.events.logging import get_logger, raised_at

from ..notifications import NoticeSource, Pacer, together
from .consumer import CLOSED, FENCED, REBUILD, RETRY, SKIP, Consumer, Plan
from .selection import Parked
from .waiters import Waiters

__all__ = ["AsyncRunner", "Progress", "Runner"]

S = TypeVar("S")

_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_ORDER_SECONDS: Final = 10.0
_BREATH: Final = 0.25
"""Seconds that a live consumer rests at most that nobody waits for."""


@frozen
class Progress:
    """How far a view has come: appends done with, and those there are, over all partitions it reads."""

    position: int
    end: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return 1.0 if self.end <= 0 else min(1.0, self.position / self.end)


class Runner(Generic[S]):
    """Keeps the view of one projection, in a thread of its own. From `AgentSystem.attach`. Thread-safe.

    Use it in a `with` block, or close it; the system closes those that are left.
    """

    def __init__(self, plan: Plan, ear: NoticeSource) -> None:
        self._plan = plan
        self._ear = ear
        self._awaiting = Waiters()
        self._consumer = Consumer(plan)
        self._closing = False
        self._abandoned = False
        self._rest = Pacer(_BREATH)
        self._ended: DuramenError | None = None
        self._trouble: DuramenError | None = None
        self._logger = get_logger("projection").bind(consumer=plan.name)
        self._thread = threading.Thread(target=self._main, name=f"duramen-projection-{plan.name}", daemon=True)

    def start(self) -> Self:
        """Claim the name and begin. Raises Unavailable."""
        try:
            self._consumer.open()
        except BaseException:
            self._ear.close()
            raise
        self._thread.start()
        return self

    def __repr__(self) -> str:
        return f"<Runner {self.name} {self.status}>"

    # -- what it has come to -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The durable name."""
        return self._plan.name

    @property
    def state(self) -> S:
        """The view as it is now, which may be ahead of what is stored. Only look at it.

        While a view is being built beside it, the one before. A sink's is the sink.
        """
        found: S = self._consumer.side.build.view
        return found

    @property
    def status(self) -> str:
        """One of `catching_up`, `live`, `parked`, `rebuilding`, `fenced`, `closed`."""
        if isinstance(self._ended, Fenced):
            return FENCED
        return CLOSED if self._ended is not None or self._closing else self._consumer.status

    @property
    def error(self) -> DuramenError | None:
        """Why it is parked, fenced, or cannot go on just now (Unavailable: it tries again by itself)."""
        if isinstance(self._ended, SystemClosed):
            return None
        halted = self._consumer.halted
        return self._ended or (_error_of(self.name, halted) if halted else self._trouble)

    @property
    def applied(self) -> int:
        """Events handed to the projection since the view was begun."""
        return self._consumer.side.build.applied

    @property
    def lag(self) -> int:
        """Appends that are not done with. Asks the log, so that a handler that hangs is seen. Raises Unavailable."""
        ends, positions = self._plan.log.positions(), self._consumer.side.build.positions
        return sum(max(0, ends[number] - positions.get(number, 0)) for number in self._plan.scope.partitions)

    @property
    def progress(self) -> Progress:
        """How far the view has come, or the one that is being built. Asks the log. Raises Unavailable."""
        ends, positions = self._plan.log.positions(), self._consumer.building.positions
        partitions = self._plan.scope.partitions
        return Progress(sum(positions.values()), sum(ends[partition] for partition in partitions))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(
        self,
        receipts: Receipt | Iterable[Receipt] | None = None,
        *,
        timeout: float | None = 30.0,
        saved: bool = False,
    ) -> None:
        """Return when the events of these receipts have been applied; with `saved`, when view and cursor are stored.

        Without receipts: all that is in the log now. Raises AskTimeout; ConsumerParked, Trimmed, Diverged, DataLoss
        or what else it is parked with; Fenced; SystemClosed; Unavailable.
        """
        future = self.future_of(receipts, saved)
        try:
            future.result(timeout)
        except FutureTimeout:
            raise self.too_late(timeout) from None
        except CancelledError:
            raise SystemClosed(f"consumer {self.name} was closed") from None
        finally:
            self.forget(future)

    @property
    def aio(self) -> AsyncRunner:
        """The calls that wait, for asyncio."""
        return AsyncRunner(self)

    def future_of(self, receipts: Receipt | Iterable[Receipt] | None, saved: bool) -> Future[None]:
        """Behind `wait_for`. To be given to `forget` in the end."""
        log, wanted = self._plan.log, set(self._plan.scope.partitions)
        if receipts is not None:
            found = [receipts] if isinstance(receipts, Receipt) else list(receipts)
            if not all(type(receipt) is Receipt for receipt in found):
                raise InvalidMessage("wait_for takes receipts; without any it waits for all that is in the log")
            wanted &= {log.partition_of(receipt.agent) for receipt in found}
        if self._ended is not None:
            raise copy(self._ended)
        # A receipt does not say where its append stands in the feed: at its present end or before.
        ends = log.positions()
        target = {partition: ends[partition] for partition in wanted}
        future = self._awaiting.add(target, saved=saved)
        self._tell()
        self._ear.wake()
        return future

    def forget(self, future: Future[None]) -> None:
        """Nobody waits for this one any more."""
        self._awaiting.forget(future)

    def too_late(self, timeout: float | None) -> AskTimeout:
        """The error of who has waited too long."""
        return AskTimeout(f"consumer {self.name} has not come that far within {timeout} s", expected=timeout)

    def _tell(self) -> None:
        """Tell those who wait, if there is something to tell."""
        if not self._awaiting.any:
            return
        build = self._consumer.side.build
        self._awaiting.reached(build.positions, build.saved_positions if self._consumer.switched else {})
        halted = self._consumer.halted
        error = self._ended or (_error_of(self.name, halted) if halted else None)
        if error is not None:
            self._awaiting.fail(error)

    # -- by hand -----------------------------------------------------------------------------------------------------

    def retry(self) -> None:
        """Let a parked consumer try again. Raises InvalidMessage if it is not parked."""
        self._parked()
        self._order(RETRY)

    def skip(self) -> None:
        """Leave out the event it is parked at, for good: exactly that one, which is recorded.

        Raises InvalidMessage if it is not parked, or not because its own code refused an event.
        """
        failure = self._parked().failure
        place = self._consumer.barrier
        if place is None:
            raise InvalidMessage(f"consumer {self.name} is parked by {failure.error}, and not at an event of its own")
        self._order(SKIP, *place)

    def rebuild(self) -> None:
        """Build the view anew from the start of the log, beside the one that is read. Returns when it is begun.

        That one stays up to date, and is replaced in one write when the new one has come as far. A sink is emptied
        instead, and filled again. Raises InvalidMessage for one that cannot be emptied.
        """
        if self._plan.reset is not None and not self._plan.can_rebuild:
            self._plan.reset()
        self._order(REBUILD)

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How many events were left out by hand, and the latest of them."""
        return self._consumer.side.build.skipped

    def _parked(self) -> Parked:
        halted = self._consumer.halted
        if halted is None or self._ended is not None:
            raise InvalidMessage(f"consumer {self.name} is not parked: it is {self.status}", actual=self.status)
        return halted

    def _order(self, what: str, agent: str | None = None, seq: int | None = None) -> None:
        if self._ended is not None or self._closing:
            raise copy(self._ended) if self._ended else SystemClosed(f"consumer {self.name} is closed")
        done = self._consumer.order(what, agent, seq)
        self._ear.wake()
        if not done.wait(_ORDER_SECONDS):
            raise AskTimeout(f"consumer {self.name} was told to {what}, and will when it can", expected=_ORDER_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more: fenced, or closed."""
        return self._ended is not None

    # -- the thread --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let it end by itself; `close` waits for that."""
        self._closing = True
        self._ear.wake()

    def after_fork(self, message: str) -> None:
        """In a forked child: its thread does not live here, and its connection is the parent's."""
        self._closing = True
        self._consumer.after_fork()
        self._awaiting = Waiters()
        self._ended = SystemClosed(message)

    def close(self, timeout: float = 10.0) -> bool:
        """Store what it has come to, and end, within `timeout` seconds; whether it has ended by then.

        Code of the projection that hangs cannot be ended: its thread is left to itself, and stores nothing any more.
        """
        self.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        ended = not self._thread.is_alive()
        if not ended and not self._abandoned:
            self._abandoned = True
            self._consumer.leave()
            self._logger.warning("consumer_left_behind", seconds=timeout)
        self._end(SystemClosed(f"consumer {self.name} is closed"))
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, error: DuramenError) -> None:
        self._ended = self._ended or error
        self._awaiting.fail(self._ended)
        self._ear.close()

    def _main(self) -> None:
        try:
            self._run()
            if not self._abandoned:
                self._consumer.finish()
        except Fenced as error:
            self._logger.info("consumer_fenced")
            self._end(error)
        except DuramenError as error:
            self._logger.warning("consumer_ended", error=type(error).__name__)
            self._end(error)
        except BaseException as error:  # whatever it is, nobody must wait for this thread
            self._logger.warning("consumer_failed", error=type(error).__name__, at=raised_at(error))
            self._end(SystemClosed(f"consumer {self.name} failed: {type(error).__name__}"))
        finally:
            self._consumer.close()

    def _run(self) -> None:
        hints: Mapping[int, int] = {}
        pause = _PAUSE
        while not self._closing:
            began = monotonic()
            try:
                # What somebody waits for is there, whether it was heard of or not.
                hints = together(hints, self._awaiting.positions)
                busy = self._consumer.turn(hints, urgent=self._awaiting.for_saved)
            except Unavailable as error:
                self._trouble = error
                hints = self._ear.receive(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
                continue
            self._trouble, pause = None, _PAUSE
            self._tell()
            hints = {} if busy else self._listen(monotonic() - began)

    def _listen(self, took: float) -> Mapping[int, int]:
        self._rest.begin(took)
        hints = self._ear.receive(self._consumer.pause())
        if not hints or self._awaiting.any or self._closing:
            return hints
        self._ear.rest(self._rest.left)
        return together(hints, self._ear.receive(0.0))


class AsyncRunner:
    """`await runner.aio.wait_for(…)`: the calls of a `Runner` that wait, for asyncio."""

    def __init__(self, runner: Runner[Any]) -> None:
        self._runner = runner

    async def wait_for(
        self,
        receipts: Receipt | Iterable[Receipt] | None = None,
        *,
        timeout: float | None = 30.0,
        saved: bool = False,
    ) -> None:
        """As `Runner.wait_for`. Blocks no thread while it waits."""
        runner = self._runner
        future = await asyncio.to_thread(runner.future_of, receipts, saved)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await asyncio.wrap_future(future)
        except TimeoutError:
            if not limit.expired():
                raise
            raise runner.too_late(timeout) from None
        finally:
            runner.forget(future)

    async def close(self, timeout: float = 10.0) -> bool:
        """As `Runner.close`."""
        return await asyncio.to_thread(self._runner.close, timeout)


def _error_of(name: str, halted: Parked) -> DuramenError:
    """The typed error of a consumer that is parked; a new one each time, for each who raises it."""
    cause, failure = halted.cause, halted.failure
    if isinstance(cause, DuramenError):
        return copy(cause)
    error = ConsumerParked(
        f"consumer {name} is parked: its code raised {failure.error} at event {failure.seq} of {failure.agent}; "
        "correct the code and attach it again, or retry() or skip()",
        agent=failure.agent,
        seq=failure.seq,
        actual=failure.error,
    )
    error.__cause__ = cause
    return error
