"""A projection that is attached to a log under a durable name, as its user sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
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
from duramen.events.model import Seconds, parse_seconds, parse_timeout

from ..notifications import NoticeSource, Pacer, merge_positions
from .consumer import REBUILD, RETRY, SKIP, Consumer
from .plan import CLOSED, FENCED, Plan
from .selection import Parked
from .standby import SharedConsumer
from .waiters import Waiter, Waiters

S = TypeVar("S")

_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_REQUEST_SECONDS: Final = 10.0
_LONGEST_ROUND: Final = 0.25
"""Seconds that a live consumer pauses at most between rounds while no caller waits for it."""


@frozen
class Progress:
    """How far a view has come: the appends that are done with, and all there are, of the partitions it reads."""

    position: int
    end: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return 1.0 if self.end <= 0 else min(1.0, self.position / self.end)


class Runner(Generic[S]):
    """Keeps the view of one projection up to date, in a thread of its own. From `AgentSystem.attach`. Thread-safe.

    Use it in a `with` block, or close it; the system closes the others.
    """

    def __init__(self, plan: Plan, notices: NoticeSource, shared: SharedConsumer | None = None) -> None:
        self._plan = plan
        self._notices = notices
        self._waiters = Waiters()
        self._consumer = shared or Consumer(plan)
        self._closing = False
        self._abandoned = False
        self._pacer = Pacer(_LONGEST_ROUND)
        self._ended: DuramenError | None = None
        self._trouble: DuramenError | None = None
        self._logger = get_logger("projection").bind(consumer=plan.name)
        self._thread = threading.Thread(target=self._main, name=f"duramen-projection-{plan.name}", daemon=True)

    def start(self) -> Self:
        """Claim the name and begin. Raises Unavailable."""
        try:
            self._consumer.open()
        except BaseException:
            self._notices.close()
            raise
        self._thread.start()
        return self

    def __repr__(self) -> str:
        return f"<Runner {self.name} {self.status}>"

    # -- the view -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The durable name."""
        return self._plan.name

    @property
    def state(self) -> S:
        """The view as it is now, which may be ahead of the stored one. Do not change it.

        While a new view is being built, the one before. For a sink, the sink. In standby, the view that the host which
        has the consumer stored last, seen a second ago at most: it is read from the store when it has changed, which
        blocks. Raises Unavailable then (also for a view of another version or scope), CorruptEvent, Fenced if the
        consumer was removed, and what the projection's `load` raises.
        """
        found: S = self._consumer.current.view
        return found

    @property
    def status(self) -> str:
        """One of `catching_up`, `live`, `parked`, `rebuilding`, `standby`, `fenced`, `closed`."""
        if isinstance(self._ended, Fenced):
            return FENCED
        return CLOSED if self._ended is not None or self._closing else self._consumer.status

    @property
    def error(self) -> DuramenError | None:
        """Why it is parked, fenced, or cannot go on just now (Unavailable: it tries again by itself)."""
        if isinstance(self._ended, SystemClosed):
            return None
        parked = self._consumer.parked
        return self._ended or (_error_of(self.name, parked) if parked else self._trouble)

    @property
    def applied(self) -> int:
        """Events handed to the projection since the view was begun."""
        return self._consumer.current.applied

    @property
    def lag(self) -> int:
        """Appends that are not done with. Asks the log, so it grows while a handler hangs. Raises Unavailable."""
        return self.lag_behind(self._plan.log.positions())

    def lag_behind(self, ends: Sequence[int]) -> int:
        """The lag if the feeds end there: a position for each partition of the log."""
        positions = self._consumer.current.positions
        return sum(max(0, ends[number] - positions.get(number, 0)) for number in self._plan.partitions)

    @property
    def progress(self) -> Progress:
        """How far the view has come, or the one that is being built. Asks the log. Raises Unavailable."""
        ends, positions = self._plan.log.positions(), self._consumer.building.positions
        partitions = self._plan.partitions
        return Progress(sum(positions.values()), sum(ends[partition] for partition in partitions))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(
        self,
        receipts: Receipt | Iterable[Receipt] | None = None,
        *,
        timeout: Seconds | None = 30.0,
        saved: bool = False,
    ) -> None:
        """Return when the events of these receipts have been applied; with `saved`, when view and cursor are stored.

        Without receipts: all events that are in the log now. In standby, when they are stored by the host that has
        the consumer. Raises AskTimeout; ConsumerParked, Trimmed, Diverged,
        DataLoss or another error that it is parked with; Fenced; SystemClosed; Unavailable.
        """
        seconds = parse_timeout(timeout)
        future = self.future_of(receipts, saved)
        try:
            future.result(seconds)
        except FutureTimeout:
            raise self.timed_out(seconds) from None
        except CancelledError:
            raise SystemClosed(f"consumer {self.name} was closed") from None
        finally:
            self.forget(future)

    @property
    def aio(self) -> AsyncRunner:
        """The calls that wait, for asyncio."""
        return AsyncRunner(self)

    def future_of(self, receipts: Receipt | Iterable[Receipt] | None, saved: bool) -> Future[None]:
        """The future that `wait_for` waits for. Pass it to `forget` at the end."""
        log, wanted = self._plan.log, set(self._plan.partitions)
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
        future = self._waiters.add(target, saved=saved)
        if self._ended is not None:  # meanwhile
            self._waiters.fail(copy(self._ended))
        self._notices.wake()
        return future

    def forget(self, future: Future[None]) -> None:
        """Stop waiting for a future of `future_of`."""
        self._waiters.forget(future)

    def timed_out(self, timeout: float | None) -> AskTimeout:
        """The error of a `wait_for` whose time is up."""
        return AskTimeout(f"consumer {self.name} has not come that far within {timeout} s", expected=timeout)

    def _resolve(self, waiters: Sequence[Waiter]) -> None:
        """Resolve those whose positions are reached, if the log still has what the view has seen. Raises Unavailable.

        `waiters` came before the turn: what was compared with the log in it is as new as they are.
        """
        consumer = self._consumer
        view = consumer.current
        reached = self._waiters.reached(waiters, view.positions, view.saved_positions if consumer.is_live else {})
        if reached:
            consumer.confirm()
        if consumer.is_sound:
            self._waiters.resolve(reached)
        parked = consumer.parked
        if parked is not None:
            self._waiters.fail(_error_of(self.name, parked), waiters)

    # -- by hand -----------------------------------------------------------------------------------------------------

    def retry(self) -> None:
        """Let a parked consumer try again. Raises InvalidMessage if it is not parked, or runs on another host."""
        self._parked()
        self._request(RETRY)

    def skip(self) -> None:
        """Skip the event it is parked at, for good: exactly that one, which is recorded.

        Raises InvalidMessage if it is not parked, not because its own code refused an event, or runs on another host.
        """
        failure = self._parked().failure
        place = self._consumer.barrier
        if place is None:
            raise InvalidMessage(f"consumer {self.name} is parked by {failure.error}, and not at an event of its own")
        self._request(SKIP, *place)

    def rebuild(self) -> None:
        """Rebuild the view from the start of the log. Returns when that has begun.

        The present view stays up to date, and is replaced in one write when the new one has come as far. A sink is
        emptied instead, and filled again. If the rebuild meets an error of the log, the present view goes on alone.
        Raises Trimmed if events that the view was made of are gone, and InvalidMessage for a sink that cannot be
        emptied, and in standby: then nothing was changed. Raises Unavailable.
        """
        if self._plan.reset is not None and not self._plan.can_rebuild:
            self._plan.reset()
        self._plan.check_rebuildable()
        self._request(REBUILD)

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How many events were skipped, and the latest of them."""
        return self._consumer.current.skipped

    def _parked(self) -> Parked:
        parked = self._consumer.parked
        if parked is None or self._ended is not None:
            raise InvalidMessage(f"consumer {self.name} is not parked: it is {self.status}", actual=self.status)
        return parked

    def _request(self, what: str, agent: str | None = None, seq: int | None = None) -> None:
        if self._ended is not None or self._closing:
            raise copy(self._ended) if self._ended else SystemClosed(f"consumer {self.name} is closed")
        done = self._consumer.request(what, agent, seq)
        self._notices.wake()
        if not done.wait(_REQUEST_SECONDS):
            raise AskTimeout(
                f"consumer {self.name} was asked to {what}, and will when it can", expected=_REQUEST_SECONDS
            )

    @property
    def ended(self) -> bool:
        """Whether it has ended: fenced, or closed."""
        return self._ended is not None

    # -- the thread --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let its thread end; `close` waits for that."""
        self._closing = True
        self._notices.wake()

    def after_fork(self, message: str) -> None:
        """End, in a forked child: its thread and connection are the parent's."""
        self._closing = True
        self._consumer.after_fork()
        self._waiters = Waiters()
        self._ended = SystemClosed(message)

    def close(self, timeout: Seconds = 10.0) -> bool:
        """Store view and cursor and end, within `timeout` seconds; whether it has ended by then.

        A projection that hangs cannot be ended: its thread is abandoned, and stores nothing any more.
        """
        seconds = parse_seconds("timeout", timeout)
        self.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(seconds)
        ended = not self._thread.is_alive()
        if not ended and not self._abandoned:
            self._abandoned = True
            self._consumer.abandon()
            self._logger.warning("consumer_left_behind", seconds=seconds)
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
        self._waiters.fail(self._ended)
        self._notices.close()

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
        except BaseException as error:  # whatever it is, no caller must wait for this thread
            self._logger.warning("consumer_failed", error=type(error).__name__, at=raised_at(error))
            self._end(SystemClosed(f"consumer {self.name} failed: {type(error).__name__}"))
        finally:
            self._consumer.close()

    def _run(self) -> None:
        moved: Mapping[int, int] = {}
        pause = _PAUSE
        while not self._closing:
            began = monotonic()
            try:
                waiters = self._waiters.all()
                # The positions that callers wait for exist, with or without a notice.
                moved = merge_positions(moved, self._waiters.positions)
                busy = self._consumer.turn(moved, urgent=self._waiters.for_saved)
                self._resolve(waiters)
            except Unavailable as error:
                self._trouble = error
                moved = self._notices.receive(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
                continue
            self._trouble, pause = None, _PAUSE
            moved = {} if busy else self._wait_for_notices(monotonic() - began)

    def _wait_for_notices(self, took: float) -> Mapping[int, int]:
        self._pacer.begin(took)
        moved = self._notices.receive(self._consumer.pause())
        if not moved or self._waiters.any or self._closing:
            return moved
        self._notices.pause(self._pacer.left)
        return merge_positions(moved, self._notices.receive(0.0))


class AsyncRunner:
    """`await runner.aio.wait_for(…)`: the calls of a `Runner` that wait, for asyncio."""

    def __init__(self, runner: Runner[Any]) -> None:
        self._runner = runner

    async def wait_for(
        self,
        receipts: Receipt | Iterable[Receipt] | None = None,
        *,
        timeout: Seconds | None = 30.0,
        saved: bool = False,
    ) -> None:
        """As `Runner.wait_for`. Blocks no thread while it waits."""
        runner, seconds = self._runner, parse_timeout(timeout)
        future = await asyncio.to_thread(runner.future_of, receipts, saved)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await asyncio.wrap_future(future)
        except TimeoutError:
            if not limit.expired():
                raise
            raise runner.timed_out(seconds) from None
        finally:
            runner.forget(future)

    async def close(self, timeout: Seconds = 10.0) -> bool:
        """As `Runner.close`."""
        return await asyncio.to_thread(self._runner.close, timeout)


def _error_of(name: str, parked: Parked) -> DuramenError:
    """The typed error of a parked consumer; a new object each time, since several threads may raise it."""
    cause, failure = parked.cause, parked.failure
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
