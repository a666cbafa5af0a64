"""An event loop that is driven: tasks run on it until all wait for results that are handed in from outside."""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextvars import Context
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self, TypeAlias, TypeVar, TypeVarTuple, Unpack, cast

from duramen.events import NotDurable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Report: TypeAlias = Callable[[Mapping[str, Any]], object]

MOST_CALLS: Final = 1_000_000
"""Callbacks in one stretch, about a second's work; a handler that needs more of them never waits."""

_A_STEP: Final = (
    "its log could not repeat that: do it in a step (`await self.step(name, function, …)`), and wait with "
    "`self.sleep`, `self.wait_for` or asyncio's own gather, wait, TaskGroup, locks and queues over them"
)
_frame_at: Final[Callable[[int], FrameType]] = import_module("sys")._getframe
_HASH_STEP: Final = 0x9E3779B97F4A7C15
_HASH_BITS: Final = (1 << 61) - 1


class WorkCancelled(asyncio.CancelledError):
    """Raised where a durable handler waits when its work is cancelled or its agent terminated. A BaseException.

    It is a `CancelledError` because asyncio's TaskGroup, gather and wait_for pass no other exception on correctly.
    """


class Pending(asyncio.Future[Any]):
    """The result of something that the work has begun; it is handed in under its number."""

    __slots__ = ("number", "order")
    number: int
    order: int

    def __hash__(self) -> int:
        return self.order

    def cancel(self, msg: Any = None) -> bool:
        """Give the result up: it is dropped when it comes."""
        cancelled = super().cancel(msg)
        if cancelled:
            cast("DurableLoop", self.get_loop()).give_up(self.number)
        return cancelled


class DurableTask(asyncio.Task[T]):
    """A task with a hash that is the same in each run of the work, as is then the order of a set of tasks.

    asyncio.wait returns sets of tasks, TaskGroup and as_completed iterate over them; by address, runs would differ.
    """

    _log_destroy_pending: bool

    def __init__(
        self, watched: _Watched, loop: DurableLoop, order: int, name: str, context: Context | None = None
    ) -> None:
        self.order = order  # before the rest, because asyncio puts the task into a set there
        super().__init__(watched, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.order

    def expect_no_end(self) -> None:
        """Have asyncio say nothing when the task is dropped before it has ended."""
        self._log_destroy_pending = False


class _Watched(Coroutine[Any, Any, Any]):
    """A task's coroutine. It may wait for futures of its own loop only, and counts as live until it has ended."""

    def __init__(self, loop: DurableLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any]) -> None:
        self._loop = loop
        self.coroutine = coroutine
        self.cancelled_as: WorkCancelled | None = None

    def send(self, value: Any) -> Any:
        try:
            waited = self.coroutine.send(value)
        except BaseException:
            self._loop.forget(self)
            raise
        return waited if waited is None else self._check(waited)

    def throw(self, error: Any, value: object = None, traceback: TracebackType | None = None) -> Any:
        """Raise an error in the coroutine; WorkCancelled, where the whole work is being cancelled."""
        if self.cancelled_as is not None and isinstance(error, asyncio.CancelledError):
            error, self.cancelled_as = self.cancelled_as, None
        try:
            waited = self.coroutine.throw(error)
        except BaseException:
            self._loop.forget(self)
            raise
        return waited if waited is None else self._check(waited)

    def close(self) -> None:
        """Raise GeneratorExit in the coroutine, which may not wait any more. Raises what it raises instead."""
        self._loop.forget(self)
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a task's coroutine is awaited by its task alone")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coroutine, name)  # what `Task.get_stack` and the representation of tasks look at

    def _check(self, waited: Any) -> Any:
        """Raise NotDurable in the coroutine that waits for what no loop of its own brings."""
        try:
            own = waited.get_loop() is self._loop
        except AttributeError:
            own = False
        if own:
            return waited
        return self.throw(self._loop.not_durable(f"awaited a {type(waited).__name__} of another loop"))


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: DurableLoop, *_: object, **__: object) -> NoReturn:
        raise self.not_durable(f"called {name} of the event loop")

    return refuse


def _refuse_the_rest(loop: type[DurableLoop]) -> type[DurableLoop]:
    """Let every other method of event loops raise NotDurable."""
    for name, member in vars(asyncio.AbstractEventLoop).items():
        if callable(member) and not name.startswith("__") and name not in vars(loop):
            setattr(loop, name, _refusal(name))
    return loop


@_refuse_the_rest
class DurableLoop(asyncio.AbstractEventLoop):
    """Runs one piece of work in stretches: from a result that is handed in to where all its tasks wait again.

    asyncio's gather, wait, as_completed, TaskGroup, shield, locks, queues and events work on it unchanged; what they
    wait for in the end are `Pending` results. The same results in the same order make the same run: callbacks run
    in the order in which they were scheduled, and a result is handed in when nothing else is ready. Whatever else
    could wait (timers, sockets, threads, processes, futures of other loops) raises NotDurable, and the work ends
    with that error, also where its code has caught it.

    Not thread-safe. One thread at a time drives it, also inside a callback of another loop; it has none of its own.
    """

    @classmethod
    def start(
        cls, work: Coroutine[Any, Any, Any], report: Report, *, seed: int = 0, context: Context | None = None
    ) -> Self:
        """Make the loop of a coroutine, which begins to run with `run`.

        `report` gets what asyncio gives to exception handlers, such as exceptions of tasks that nobody awaited; the
        garbage collector may call it in any thread. `seed` decides the order of sets of tasks: give one that is the
        same in all runs of the work, and mostly another in other work. The work runs in `context`, or in a copy of
        the caller's.
        """
        return cls(work, report, seed, context)

    def __init__(
        self, work: Coroutine[Any, Any, Any], report: Report, seed: int = 0, context: Context | None = None
    ) -> None:
        self._report: Report = report
        self._seed = seed
        self._ready: deque[asyncio.Handle] = deque()
        self._live: dict[_Watched, DurableTask[Any]] = {}
        self._tasks = 0
        self._last = 0
        self._open: dict[int, Pending] = {}
        self._begun: list[tuple[int, Any]] = []
        self._given_up: list[int] = []
        self._begins_nothing = False
        self._failure: BaseException | None = None
        self._value: Any = None
        self._main: DurableTask[Any] | None = None
        self._work: _Watched | None = _Watched(self, work)
        self._context = context

    # -- for what drives the work

    @property
    def ended(self) -> bool:
        """Whether the work has come to its end; `result` says to which."""
        return self._work is None

    @property
    def last_number(self) -> int:
        """The number of what was begun last; 0 before the first."""
        return self._last

    def is_open(self, number: int) -> bool:
        """Whether the result of this number is still waited for."""
        return number in self._open

    def take_begun(self) -> list[tuple[int, Any]]:
        """Number and description of what was begun since the last call, in order."""
        begun, self._begun = self._begun, []
        return begun

    def take_given_up(self) -> list[int]:
        """The numbers of what was cancelled since the last call, in order: nothing waits for their results now."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def result(self) -> Any:
        """What the ended work returned. Raises what it raised, or NotDurable, also where its code has caught that."""
        if self._failure is not None:
            raise self._failure
        return self._value

    def run(self) -> None:
        """Begin the work, and run until all its tasks wait. It raises nothing of the work's."""
        work = self._work
        if self._main is None and work is not None:
            self._drive(self._start, work)

    def hand(self, number: int, value: Any) -> bool:
        """Hand a result in, and run until all tasks wait. False: nothing waits for it, so nothing has run."""
        pending = self._open.pop(number, None)
        if pending is None:
            return False
        self._drive(pending.set_result, value)
        return True

    def fail(self, number: int, error: BaseException) -> bool:
        """Raise an error where the result is waited for, and run until all tasks wait. False: as for `hand`."""
        pending = self._open.pop(number, None)
        if pending is None:
            return False
        self._drive(pending.set_exception, error)
        return True

    def cancel(self, error: WorkCancelled, *, final: bool) -> None:
        """Raise an error where the work's first task waits, which cancels what it awaits, and run until all wait.

        `final`: nothing is begun from here on, and the work has ended afterwards, also where its code goes on
        waiting. Without it the work may go on; its driver bounds that, by a second call that is final.
        """
        work, main = self._work, self._main
        if work is None:
            return
        self._begins_nothing = self._begins_nothing or final
        work.cancelled_as = error
        if main is None:
            self._drive(self._start, work)
        else:
            self._drive(main.cancel)
        if final and not self.ended:
            self._in_loop(self._end, error)

    def discard(self) -> None:
        """Close the work where it stands, for another run to carry it on: it begins nothing and reports nothing."""
        self._report = _ignore
        if not self.ended:
            self._in_loop(self._close_all)

    # -- for the agent's awaits

    def pending(self, description: object) -> Pending:
        """Begin something: the future of its result, under the next number. Only in a task of this loop.

        `take_begun` gives the description back. Where the work has ended or is cancelled for good, nothing is begun,
        and the future gets no result.
        """
        # What has ended does not raise, or code that tries again after every exception would never come to its end.
        if events._get_running_loop() is not self and not self._begins_nothing:
            raise self.not_durable("awaited the agent in another loop or thread than its handler's")
        pending = Pending(loop=self)
        pending.number = number = 0 if self._begins_nothing else self._last + 1
        pending.order = self._order(number)
        if number:
            self._last = number
            self._open[number] = pending
            self._begun.append((number, description))
        return pending

    def not_durable(self, what: str, instead: str = _A_STEP) -> NotDurable:
        """Make the error for something that a re-run cannot repeat from the log; the work ends with the first."""
        error = NotDurable(f"a durable handler {what}; {instead}")
        if self._failure is None:
            self._failure = error
        return error

    # -- for its own tasks and futures

    def give_up(self, number: int) -> None:
        """Drop a result that nothing waits for any more."""
        if self._open.pop(number, None) is not None:
            self._given_up.append(number)

    def forget(self, watched: _Watched) -> None:
        """A coroutine has ended; with that of the work, nothing is begun any more."""
        self._live.pop(watched, None)
        if watched is self._work:
            self._begins_nothing = True

    # -- for asyncio

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if events._get_running_loop() is not self:
            raise self.not_durable("was called back from another loop or thread")
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future for asyncio's own locks, queues and waits; other code's could wait for anything."""
        module = _frame_at(1).f_globals.get("__name__", "")
        if module == "asyncio.futures" or not module.startswith("asyncio."):
            raise self.not_durable(f"waited for a future of {module}")
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        if _is_in_as_completed(_frame_at(1)):
            coro.close()
            raise self.not_durable(
                "gave coroutines to asyncio.as_completed, which starts them in another order each time",
                "give it tasks, made with asyncio.create_task",
            )
        return self._add_task(_Watched(self, coro), name, context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.ended

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._report(context)

    # -- inside

    def _order(self, number: int) -> int:
        return (self._seed + number * _HASH_STEP) & _HASH_BITS

    def _start(self, work: _Watched) -> None:
        self._main = main = self._add_task(work, "work", self._context)
        if work.cancelled_as is not None:
            main.cancel()

    def _add_task(self, watched: _Watched, name: str | None, context: Context | None) -> DurableTask[Any]:
        self._tasks += 1
        task: DurableTask[Any] = DurableTask(
            watched, self, self._order(-self._tasks), name or f"task-{self._tasks}", context
        )
        self._live[watched] = task
        return task

    def _in_loop(self, act: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Do something as the thread's running loop."""
        before, hooks = events._get_running_loop(), sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(None, self._close_generator)
        try:
            act(*args)
        finally:
            events._set_running_loop(before)
            sys.set_asyncgen_hooks(*hooks)

    def _drive(self, begin: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Run one stretch, and end the work if it has come to its end."""
        self._in_loop(self._run_stretch, begin, *args)

    def _run_stretch(self, begin: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        begin(*args)
        self._run_ready()
        if self._begins_nothing or self._failure is not None or not self._open:
            self._end_if_ended()

    def _run_ready(self) -> None:
        """Run callbacks until none is left."""
        ready = self._ready
        try:
            for _ in range(MOST_CALLS):
                if not ready:
                    return
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        except (SystemExit, KeyboardInterrupt) as error:
            self._failure = self._failure or error
            return
        self.not_durable(f"has run {MOST_CALLS:,} callbacks without waiting", "let it wait for something")

    def _end_if_ended(self) -> None:
        main = self._main
        if main is not None and not main.done() and not self._open and not self._begins_nothing:
            self.not_durable(f"waits for what nothing brings ({self._place()})")
        if self._failure is not None or main is None or main.done():
            self._end(None)

    def _end(self, last: BaseException | None) -> None:
        """Keep the outcome, and end what still runs: cancelled first, and closed if it goes on waiting."""
        main = self._main
        failure = self._failure
        if failure is None and main is not None and main.done():
            try:
                self._value = main.result()
            except BaseException as error:
                failure = error
        elif failure is None:
            failure = last
        self._begins_nothing = True
        for task in list(self._live.values()):
            task.cancel()
        self._run_ready()
        self._failure = failure  # whatever came while ending
        self._close_all()

    def _close_all(self) -> None:
        """Close all coroutines and drop all results."""
        self._begins_nothing = True
        for watched, task in list(self._live.items()):
            task.expect_no_end()
            try:
                watched.close()
            except BaseException as error:
                self._report({"message": "a task did not end with its work", "exception": error, "task": task})
        self._given_up.extend(sorted(self._open))
        self._open.clear()
        self._ready.clear()
        self._work = self._main = None

    def _place(self) -> str:
        """Where the work's first task waits, outside of asyncio, for a message."""
        place, waiting = "place unknown", getattr(self._work, "coroutine", None)
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            if not str(frame.f_globals.get("__name__")).startswith("asyncio."):
                place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            waiting = getattr(waiting, "cr_await", None)
        return place

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Let an asynchronous generator that was dropped half-way end in a task, as asyncio does."""
        if self.is_running() and not self.ended:
            self.create_task(generator.aclose())


def _ignore(_: Mapping[str, Any]) -> None:
    """Report nothing."""


def _is_in_as_completed(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") == "asyncio.tasks":
        if frame.f_code.co_qualname.startswith(("as_completed", "_AsCompletedIterator")):
            return True
        frame = frame.f_back
    return False
