"""Steps: their functions are run, attempted again, and their outcomes recorded as plain data."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen

from duramen.events import DuramenError, InStep, InvalidMessage, Limits, StepFailed, StepInterrupted, TooLarge
from duramen.events.codec import Codec
from duramen.events.model import Cause, Seconds, check_value, copy_plain, log_id, parse_seconds
from duramen.projections.state import ASK

from ...commands import Span, kind_of, text_of
from ...dispatch import EventLoop, ProgramExit, Timer, refuse_blocking, set_cause
from ...handlers import packing_limits

if TYPE_CHECKING:
    from ...handlers import Services

_IN_STEP: Final[ContextVar[bool]] = ContextVar("duramen_in_step", default=False)
_ROOM: Final = 4_096
"""Bytes of an event that are reserved for all but the result."""
_MOST_FACTS: Final = 16_384
"""Most bytes of an exception's `data` that are recorded."""
_LONGEST_PAUSE: Final = 3_600.0
TIMED_OUT: Final = "StepTimeout"
INTERRUPTED: Final = "Interrupted"


def refuse_in_step(agent: str | None) -> None:
    """Raise InStep if the calling code belongs to the function of a step."""
    if _IN_STEP.get():
        raise InStep(
            "the function of a step may not use the agent, which goes on meanwhile; give it what it needs as arguments",
            agent=agent,
        )


def _to_pause(value: Seconds) -> float:
    return parse_seconds("backoff", value)


def _to_names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, (str, type)) else tuple(value)
    found = tuple(each.__name__ if isinstance(each, type) else each for each in names)
    if not all(type(name) is str for name in found):
        raise InvalidMessage("never names classes of exceptions")
    return found


def _check_times(_retry: object, _attribute: Any, value: object) -> None:
    if type(value) is not int or value < 1:
        raise InvalidMessage("times is how often a step is attempted, from 1 on", actual=value)


@frozen
class Retry:
    """How often a step that raises is attempted again.

    At most `times` attempts, the second one `backoff` seconds (or a timedelta) after the first, then twice as long each
    time, up to an hour. An exception of a class that `never` names, or of one derived from it, is not tried again.
    Attempts that a crash has cut off do not count: they are repeated. Raises InvalidMessage.
    """

    times: int = field(default=3, validator=_check_times)
    backoff: float = field(default=1.0, converter=_to_pause)
    never: tuple[str, ...] = field(default=(), converter=_to_names)

    def pause_before(self, attempt: int) -> float:
        """Seconds before an attempt; the first is 1."""
        return float(min(_LONGEST_PAUSE, self.backoff * 2.0 ** min(attempt - 2, 40)))


ONCE: Final = Retry(times=1)
Accepts = Callable[[Any], object]
"""Checks the value of an answer: False, or an exception, refuses it."""
Outcome = tuple[Any, "dict[str, Any] | None"]
"""A result and None, or None and what the failure was, as plain data."""


def find_refusal(accepts: Accepts, value: Any) -> str | None:
    """Why a check does not accept a value, of which it gets a copy; None: it does.

    The check may ask no agent, in whatever thread it is called: each run of its handler calls it again, and it has to
    decide the same.
    """

    def check() -> object:
        _IN_STEP.set(True)
        with refuse_blocking():
            return accepts(copy_plain(value))

    try:
        verdict = Context().run(check)
    except (Exception, SystemExit) as error:
        return f"{kind_of(error)}: {text_of(error)}"
    if inspect.isawaitable(verdict):
        if inspect.iscoroutine(verdict):
            verdict.close()
        return "its check returns a coroutine, which would decide nothing: make it a plain function"
    return "it is not accepted" if verdict is False else None


@define(eq=False)
class Begun:
    """Something that a handler has begun, and how it is carried out."""

    number: int
    kind: str
    name: str
    run: Callable[[str], Any] | None = None
    """Calls the function of a step, with its arguments; it gets the step's key. It must not refer to this object."""
    is_async: bool = False
    retry: Retry = ONCE
    timeout: float | None = None
    once: bool = False
    key: str = ""
    """The same in each attempt and each run, and no other step's."""
    seq: int = 0
    """The seq of the event that has recorded it."""
    is_recovered: bool = False
    """Whether it was begun by an earlier run of the handler."""
    is_under_way: bool = False
    timer: Timer | None = None
    cancel_running: Callable[[], None] | None = None
    is_work: bool = False
    """Whether another agent is asked by a durable message: its work is cancelled when nobody waits any more."""
    is_told_at_once: bool = False
    """Whether this process tells the other agent then, if it lives: an earlier release began it, and noted less."""
    accepts: Accepts | None = None
    """The check of an answer; None: any is accepted."""
    model: str | None = None
    """The model that the function of a step asks, for traces."""

    @property
    def logged_name(self) -> str:
        """What stands in the log: of another agent not the path, since it stands there when that agent is erased."""
        return log_id(self.name) if self.kind == ASK else self.name

    def cancel(self) -> None:
        """Cancel the timer and, of a coroutine, what runs."""
        if self.timer is not None:
            self.timer.cancel()
        if self.cancel_running is not None:
            self.cancel_running()


Ended = Callable[[Outcome, "BaseException | None"], None]
"""Called in the core with the outcome of an attempt and what it raised."""


class Attempt:
    """One attempt of a step in this process. It outlives its agent's stay in memory: the next one gets its outcome."""

    __slots__ = ("_ended", "_loop", "_outcome", "begun", "number", "span")

    def __init__(self, number: int, begun: Begun, loop: EventLoop) -> None:
        self.number = number
        self.begun = begun
        self.span: Span | None = None
        """The span of this attempt, where steps are traced."""
        self._loop = loop
        self._ended: Ended | None = None
        self._outcome: tuple[Outcome, BaseException | None] | None = None

    @property
    def has_ended(self) -> bool:
        return self._outcome is not None

    def end(self, outcome: Outcome, error: BaseException | None) -> None:
        """Have the core note the outcome, and hand it over; from the thread that the function has run in."""
        if self.span is not None:
            self.span.end(None if outcome[1] is None else str(outcome[1]["kind"]))
        self._loop.post(partial(self._end, outcome, error))

    def _end(self, outcome: Outcome, error: BaseException | None) -> None:
        self._outcome = outcome, error
        if self._ended is not None:
            self._ended(outcome, error)

    def expect(self, ended: Ended) -> None:
        """Call `ended` with the outcome, at once if it is there, in place of the function that was given before."""
        self._ended = ended
        if self._outcome is not None:
            ended(*self._outcome)


def error_of(step: str, agent: str, error: Mapping[str, Any]) -> StepFailed:
    """The exception of a failure that was recorded."""
    kind, text = error["kind"], error["text"]
    if kind == INTERRUPTED:
        return StepInterrupted(
            f"step {step} of {agent} runs at most once, and was under way when its process ended; find out whether its "
            "effect has happened",
            agent=agent,
            kind=kind,
            text=text,
        )
    told = (
        f"step {step} of {agent} failed with {kind}: {text}" if text else f"step {step} of {agent} failed with {kind}"
    )
    return StepFailed(told, agent=agent, kind=kind, text=text, data=copy_plain(error["data"]))


def failure(kind: str, text: str, data: Any = None) -> dict[str, Any]:
    """Make the plain data that is recorded of a failure."""
    return {"kind": kind, "text": text, "data": data}


def pack_storable(value: Any, limits: Limits, what: str, codec: Codec | None = None) -> bytes:
    """The bytes of plain data that an event can hold. Raises ValueRefused, TooLarge."""
    check_value(value, limits, what)
    packed = (codec or Codec(limits)).pack_exactly(value, what)
    if len(packed) > limits.event_bytes - _ROOM:
        raise TooLarge(
            f"{what} has {len(packed)} bytes, which are too many; store it elsewhere and return where",
            expected=limits.event_bytes - _ROOM,
            actual=len(packed),
        )
    return packed


def check_result(value: Any, limits: Limits, what: str, codec: Codec | None = None) -> None:
    """Raise ValueRefused or TooLarge unless a result can be kept: in an event, or beside the log."""
    try:
        pack_storable(value, limits, what, codec)
    except TooLarge:
        pack_storable(value, packing_limits(limits), what, codec)


class StepRunner:
    """Runs the functions of steps: coroutines on the system's event loop, others in worker threads.

    They run in a context of their own, with plain copies of their arguments.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def attempt(
        self, begun: Begun, number: int, cause: Cause, ended: Ended, begin_span: Callable[[], Span] | None = None
    ) -> None:
        """Run a function, or wait for the end of this attempt, where it was begun before in this process.

        `begin_span` is called when the function is about to run, where steps are traced.
        """
        begun.is_under_way = True
        attempts = self._services.attempts
        attempt: Attempt | None = attempts.get(begun.key)
        if attempt is None or (attempt.has_ended and attempt.number != number):
            attempt = attempts[begun.key] = Attempt(number, begun, self._services.loop)
            if begin_span is not None:
                attempt.span = begin_span()
            Context().run(self._start, attempt, cause)
        else:
            begun.cancel_running = attempt.begun.cancel_running
        attempt.expect(ended)

    def has_begun(self, begun: Begun) -> bool:
        """Whether an attempt of this step was begun in this process, and its outcome was not logged yet."""
        return begun.key in self._services.attempts

    def forget(self, *keys: str) -> None:
        """Forget the attempts of steps: their outcomes are logged, or nobody wants them any more."""
        attempts = self._services.attempts
        for key in keys:
            attempts.pop(key, None)

    def _start(self, attempt: Attempt, cause: Cause) -> None:
        """Start a function in this context, which is its own."""
        _IN_STEP.set(True)
        set_cause(lambda: cause)
        if attempt.span is None:
            self._start_function(attempt)
        else:
            with attempt.span.running():
                self._start_function(attempt)

    def _start_function(self, attempt: Attempt) -> None:
        begun = attempt.begun
        run = begun.run
        assert run is not None, "a step has a function"
        if begun.is_async:
            self._start_coroutine(attempt, run(begun.key))
        else:
            self._start_thread(attempt, run)

    def _start_thread(self, attempt: Attempt, run: Callable[[str], Any]) -> None:
        begun, context = attempt.begun, copy_context()
        late = _Deadline(self._services, begun.timeout)

        def work() -> None:
            late.start()
            try:
                value = context.run(run, begun.key)
            except BaseException as error:
                attempt.end(*late.judge(self._failed(error)))
                return
            if inspect.iscoroutine(value):
                context.run(self._start_coroutine, attempt, value)
                return
            attempt.end(*late.judge(self._returned(begun, value)))

        try:
            self._services.thread_pool.submit(work)
        except RuntimeError as error:  # no more threads
            attempt.end(*self._failed(error))

    def _start_coroutine(self, attempt: Attempt, work: Coroutine[Any, Any, Any]) -> None:
        timeout = attempt.begun.timeout
        whole = work if timeout is None else _bounded(work, timeout)
        attempt.begun.cancel_running = self._services.loop.start_task(whole, partial(self._done, attempt))

    def _done(self, attempt: Attempt, task: asyncio.Task[Any]) -> None:
        """Hand the outcome of a coroutine over."""
        if task.cancelled():
            attempt.end((None, failure(INTERRUPTED, "cancelled")), asyncio.CancelledError())
            return
        error = task.exception()
        if isinstance(error, ProgramExit):
            error = error.__cause__
        attempt.end(*(self._returned(attempt.begun, task.result()) if error is None else self._failed(error)))

    def _returned(self, begun: Begun, value: Any) -> tuple[Outcome, BaseException | None]:
        """The outcome of a function that has returned: a result that cannot be kept is a failure, and not run again."""
        services = self._services
        codec = services.loop_codec if services.loop.runs_here() else None
        try:
            check_result(value, services.limits, f"the result of step {begun.name}", codec)
        except DuramenError as error:
            return (None, failure(kind_of(error), str(error))), None
        return (value, None), None

    def _failed(self, error: BaseException) -> tuple[Outcome, BaseException | None]:
        if isinstance(error, _TimedOut):
            return (None, failure(TIMED_OUT, str(error))), error
        data = getattr(error, "data", None)
        try:
            if len(pack_storable(data, self._services.limits, "data")) > _MOST_FACTS:
                data = None
        except Exception:  # of a class of the user's
            data = None
        return (None, failure(kind_of(error), text_of(error), data)), error


async def _bounded(work: Coroutine[Any, Any, Any], timeout: float) -> Any:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if limit.expired():
            raise _TimedOut(timeout) from error
        raise


class _TimedOut(Exception):
    def __init__(self, seconds: float | None) -> None:
        super().__init__(f"it took longer than {seconds} s")


class _Deadline:
    """The time-out of a function in a thread, which cannot be stopped: it counts from the function's own start."""

    def __init__(self, services: Services, seconds: float | None) -> None:
        self._seconds = seconds
        self._expired = False
        self._timers = services.timers
        self._timer: Timer | None = None

    def start(self) -> None:
        if self._seconds is not None:
            self._timer = self._timers.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True

    def judge(self, found: tuple[Outcome, BaseException | None]) -> tuple[Outcome, BaseException | None]:
        """Return the outcome, or the failure of a function that was too late in its place."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._expired:
            return found
        late = _TimedOut(self._seconds)
        return (None, failure(TIMED_OUT, str(late))), late


def may_retry(retry: Retry, attempt: int, error: BaseException | None) -> bool:
    """Whether a step whose attempt has failed with an error is tried again; None: its result could not be kept."""
    if error is None or attempt >= retry.times or not isinstance(error, Exception):
        return False
    return not any(base.__name__ in retry.never for base in type(error).__mro__)
