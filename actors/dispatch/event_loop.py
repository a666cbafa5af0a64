"""The system's own event loop, which runs handlers and hooks that are coroutines."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from functools import partial
from importlib import import_module
from threading import get_ident
from time import monotonic
from types import FrameType
from typing import Any, Final, Protocol

from duramen.events import LoopBlocked
from duramen.events.logging import get_logger, raised_at

from .timers import Timers

_HEARTBEAT: Final = 0.5
_BLOCKED: Final = 1.0
"""Seconds without a turn of the loop after which its place is logged."""

_ROUNDS: Final = 3
"""Of calls and of what the core makes of them, before the loop's other tasks go on."""

Cancel = Callable[[], None]

_ON_THE_LOOP: Final = (
    "this call would block the event loop that all coroutines of handlers and hooks run on; "
    "await the same call of `aio`: `await system.agent(…).aio.ask(…)`"
)
_DECIDES_ALONE: Final = "this function may not ask an agent, or wait: it decides by its argument alone"
_frames: Final[Callable[[], Mapping[int | None, FrameType]]] = import_module("sys")._current_frames


class ProgramExit(Exception):
    """Carries SystemExit, KeyboardInterrupt or GeneratorExit as its cause: raised bare, they would end the loop."""


async def _contain_exit(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise ProgramExit from error
    except GeneratorExit as error:
        trace = error.__traceback__
        if trace is None or trace.tb_next is None:  # raised here: this coroutine is closed, and its task is gone
            raise
        raise ProgramExit from error


class _ThisThread(threading.local):
    refusal: str | None = None
    """Why the thread may not block; None: it may."""


_THIS_THREAD: Final = _ThisThread()


def check_may_block() -> None:
    """Raise LoopBlocked in the thread of a system's event loop, and where `refuse_blocking` says so."""
    refusal = _THIS_THREAD.refusal
    if refusal is not None:
        raise LoopBlocked(refusal)


def check_may_await() -> None:
    """Raise LoopBlocked where `refuse_blocking` says so: a loop that the code there runs blocks as well."""
    if _THIS_THREAD.refusal is _DECIDES_ALONE:
        raise LoopBlocked(_DECIDES_ALONE)


@contextmanager
def refuse_blocking() -> Generator[None]:
    """Have calls to agents refused in this block, in every thread."""
    before, _THIS_THREAD.refusal = _THIS_THREAD.refusal, _DECIDES_ALONE
    try:
        yield
    finally:
        _THIS_THREAD.refusal = before


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop in this thread, which no handler may block."""
    _THIS_THREAD.refusal = _ON_THE_LOOP
    loop.run_forever()


class _Watch:
    """Looks whether an event loop still turns, and logs once where it is blocked. Used in the timers' thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        self._loop = loop
        self._thread = thread
        self._asked_at: float | None = None
        self._logged = False

    def check(self) -> None:
        """Ask the loop for a heartbeat; log if it still owes the last one."""
        if self._asked_at is None:
            self._asked_at, self._logged = monotonic(), False
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._answer)
        elif not self._logged and monotonic() - self._asked_at >= _BLOCKED:
            self._logged = True
            get_logger("loop").warning("loop_blocked", at=_place(self._thread), seconds=_BLOCKED)

    def _answer(self) -> None:
        self._asked_at = None


def _place(thread: threading.Thread) -> str:
    """The outermost line of a thread that is neither the standard library's nor ours: a handler's, or a task's.

    What has been put around all threads, for tracing say, runs outside of the loop.
    """
    frame = _frames().get(thread.ident)
    stack = [] if frame is None else list(traceback.walk_stack(frame))
    in_loop = False
    for found, line in reversed(stack):
        name = str(found.f_globals.get("__name__"))
        in_loop = in_loop or name.startswith("asyncio.")
        is_known = name.partition(".")[0] in sys.stdlib_module_names or name.startswith("duramen.")
        if in_loop and not is_known:
            return f"{found.f_code.co_filename}:{line} in {found.f_code.co_name}"
    return "unknown"


class Core(Protocol):
    """What the dispatcher does for an event loop."""

    def post(self, work: Callable[[], None]) -> None: ...

    def post_and_run(self, works: Sequence[Callable[[], None]], *, waits: bool) -> None: ...


class _StartedTask:
    """A coroutine that is run as a task of an event loop. One object, because the collector's work counts."""

    __slots__ = ("_context", "_done", "_loop", "_task", "_work")

    def __init__(
        self, loop: EventLoop, work: Coroutine[Any, Any, Any], done: Callable[[asyncio.Task[Any]], None]
    ) -> None:
        self._loop = loop
        self._work = work
        self._done = done
        self._context = copy_context()
        self._task: asyncio.Task[Any] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the task, in the context in which this object was made; in the loop's thread."""
        self._task = task = loop.create_task(_contain_exit(self._work), context=self._context)
        self._loop.count_task(1)
        task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Cancel the task; from any thread."""
        self._loop.call(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[Any]) -> None:
        done = self._done
        del self._done, self._work  # they may refer to what has this object's `cancel`
        self._loop.count_task(-1)
        done(task)


class EventLoop:
    """Runs coroutines in one thread, which starts with the first coroutine. Thread-safe."""

    def __init__(self, timers: Timers, core: Core) -> None:
        self._timers = timers
        self._core = core
        self._posted: list[Callable[[], None]] = []
        """What the core is to call once the loop has turned. Used in the loop's thread, as `_tasks`."""
        self._tasks = 0
        """How many coroutines run that were started here."""
        self._thread_id: int | None = None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls: deque[Callable[[], object]] = deque()
        self._is_scheduled = False

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine and return the future of its result."""
        return asyncio.run_coroutine_threadsafe(_contain_exit(work), self._running())

    def call(self, work: Callable[[], object]) -> None:
        """Have the loop's thread call `work`, in an empty context. Raises RuntimeError once it is closed.

        An exception of `work` is logged. The loop is woken once for all that is called before it turns: waking it makes
        this thread wait for the interpreter's lock, each time.
        """
        loop = self._running()
        self._calls.append(work)
        if not self._is_scheduled:  # as `_schedule` looks itself
            self._schedule(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            schedule = loop.call_soon if self._thread_id == get_ident() else loop.call_soon_threadsafe
            try:
                schedule(self._turn, context=Context())  # not the caller's, which is one of many
            except BaseException:  # it is closed: the next call is told so too
                self._is_scheduled = False
                raise

    def start_task(self, work: Coroutine[Any, Any, Any], done: Callable[[asyncio.Task[Any]], None]) -> Cancel:
        """Start a coroutine in this context; `done` gets its task in the loop's thread. Returns what cancels it."""
        loop, started = self._running(), _StartedTask(self, work, done)
        if self._thread_id == get_ident():
            started.begin(loop)
        else:
            self.call(partial(started.begin, loop))
        return started.cancel

    def count_task(self, change: int) -> None:
        """Count a coroutine that begins (1) or has ended (-1); in the loop's thread."""
        self._tasks += change

    def post(self, work: Callable[[], None]) -> None:
        """Have the core call `work`; from the loop's thread once for all that comes of this turn of the loop.

        The loop's thread then runs the core itself, if that is idle, which saves the switch to the core's thread. It
        waits for the answer to what was appended only where no coroutine runs that this would hold up.
        """
        if self._thread_id != get_ident():
            self._core.post(work)
            return
        self._posted.append(work)
        if not self._is_scheduled:
            self._schedule(self._running())

    def _turn(self) -> None:
        """Call what is to be called, and have the core called with what came of it, which may lead to more calls."""
        try:
            for _ in range(_ROUNDS):
                self._run_calls()
                works, self._posted = self._posted, []
                if works:
                    self._core.post_and_run(works, waits=not self._tasks and not self._calls)
                if not self._calls and not self._posted:
                    break
        finally:
            self._is_scheduled = False  # first: other threads look at it after they have added a call
            if self._calls or self._posted:
                self._schedule(self._running())

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):
            try:
                self._calls.popleft()()
            except Exception as error:  # the others are called all the same
                get_logger("loop").error("call_failed", error=type(error).__name__, at=raised_at(error))

    def _running(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run_loop, args=(loop,), name="duramen-loop", daemon=True)
                try:
                    thread.start()
                except BaseException:  # the machine gives no thread: the next call asks for one again
                    loop.close()
                    raise
                self._thread, self._thread_id = thread, thread.ident
                self._loop = loop  # last: other threads look at it first
                self._timers.call_every(_HEARTBEAT, _Watch(loop, thread).check)
            return self._loop

    def runs_here(self) -> bool:
        """Whether the calling thread is the loop's."""
        return self._thread_id == get_ident()

    def close(self, timeout: float) -> None:
        """Cancel all tasks and end the thread, within `timeout` seconds."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or loop.is_closed():
            return

        async def cancel_all() -> None:
            others = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        ended = asyncio.run_coroutine_threadsafe(cancel_all(), loop)
        ended.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        thread.join(timeout)
        if not thread.is_alive():
            loop.close()
