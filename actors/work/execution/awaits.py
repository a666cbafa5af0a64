"""What a durable handler awaits: steps, answers and sleep; and the clock, random numbers and ids that its log gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from types import FunctionType
from typing import Any, Final, TypeVar, cast, overload
from uuid import UUID

from duramen.events import AgentPath, CallCycle, EventRegistry, InvalidMessage, NotDurable, Receipt, agent_path
from duramen.events.codec import to_datetime
from duramen.events.model import Seconds, check_value, copy_plain, parse_seconds
from duramen.projections.state import ASK, SLEEP, STEP, WAIT

from ...commands import Accept, require_name
from ...handlers import current_call
from .execution import Execution, WorkCall
from .loop import Pending
from .step import ONCE, Accepts, Begun, Retry, find_refusal, refuse_in_step

T = TypeVar("T")

_DIGEST: Final = 16
_FRACTION_BITS: Final = 53


def current_execution(agent: object) -> Execution:
    """The run of the durable handler that runs here. Raises NotDurable elsewhere, and InStep in a step."""
    refuse_in_step(None)
    call = current_call()
    if not isinstance(call, WorkCall):
        raise NotDurable(
            f"{type(agent).__name__} awaits what only a durable handler can: declare the message with "
            "@message_type(name, durable=True)"
        )
    return call.execution


class DurableAwaits:
    """The calls of agents that their handlers of durable messages await."""

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., Coroutine[Any, Any, T]],
        *arguments: Any,
        retry: Retry = ...,
        timeout: Seconds | None = ...,
        at_most_once: bool = ...,
        key: str | None = ...,
        log_arguments: bool = ...,
        keywords: dict[str, Any] | None = ...,
        model: str | None = ...,
    ) -> T: ...

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., T],
        *arguments: Any,
        retry: Retry = ...,
        timeout: Seconds | None = ...,
        at_most_once: bool = ...,
        key: str | None = ...,
        log_arguments: bool = ...,
        keywords: dict[str, Any] | None = ...,
        model: str | None = ...,
    ) -> T: ...

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        *arguments: Any,
        retry: Retry = ONCE,
        timeout: Seconds | None = None,
        at_most_once: bool = False,
        key: str | None = None,
        log_arguments: bool = False,
        keywords: dict[str, Any] | None = None,
        model: str | None = None,
        **unknown: Any,
    ) -> Any:
        """Call a function of the world outside, once: its result is logged, and a run from the log gets it from there.

        The function starts when what the handler has written is in the log. A coroutine function runs on the system's
        event loop, another one in a worker thread; they get plain copies of their arguments and may not use the agent.
        A step runs at least once, and again where its process ended before the result was logged; with `at_most_once`
        StepInterrupted is raised instead. `timeout` (seconds, or a timedelta) counts from the start of each attempt;
        a coroutine is then cancelled, and of a thread the late result is dropped once it has ended.

        The function gets `arguments` by place and `keywords` by name, and under the name that `key` gives a text which
        is the same in all attempts, and no other step's: for services that recognise repetitions. Of the arguments a
        digest is logged; with `log_arguments` they are themselves. `model` names the model that the function asks, for
        the span of a trace; it is not logged.
        Raises StepFailed when the last attempt of `retry` has failed or the result cannot be logged;
        before anything is begun ValueRefused, TooLarge, InvalidMessage, NotDurable, InStep.
        """
        execution = current_execution(self)
        name = require_name(name, "a step")
        if not callable(function):
            raise InvalidMessage(f"step {name} takes a function", actual=type(function).__name__)
        if unknown:
            names = ", ".join(sorted(unknown))
            raise InvalidMessage(f"step {name}: {names} is no option; keywords={{…}} is for the function's own")
        if type(cast("object", retry)) is not Retry:
            raise InvalidMessage(f"step {name}: retry is a Retry", actual=type(retry).__name__)
        seconds = None if timeout is None else parse_seconds("timeout", timeout)
        copied = copy_plain([list(arguments), dict(keywords or {})])
        digest = _digest_of(execution, copied, f"the arguments of step {name}")
        run = partial(_call_function, function, copied, retry is ONCE, key)
        begun = Begun(0, STEP, name, run, _is_coroutine_function(function), retry, seconds, bool(at_most_once))
        begun.model = None if model is None else require_name(model, "a model")
        return await execution.begin(begun, digest=digest, arguments=copied if log_arguments else None)

    async def wait_for(
        self, name: str, *, about: Any = None, timeout: Seconds | None = None, accepts: Accepts | None = None
    ) -> Any:
        """Wait for an answer of this name, which `AgentHandle.answer` gives from anywhere; return its value.

        An answer that came before is there at once; one answer goes to one wait, the oldest. `about` is plain data
        that `AgentHandle.unfinished` shows to whoever answers. Raises WaitExpired if there is no answer `timeout`
        (seconds, or a timedelta) after the wait has begun, whatever crashes come between.

        `accepts` is a function that gets a copy of the value of an answer and returns False, or raises, for one that
        will not do: whoever has given it gets AnswerRefused, and nothing is logged. It decides by the value alone, and
        quickly: each run of the handler calls it again, mostly in the thread that all handlers share. So it may not
        wait, and asking an agent in it refuses the answer. An answer that came before the wait and will not do is
        dropped.
        """
        execution = current_execution(self)
        name = require_name(name, "a wait")
        due = None if timeout is None else _due(execution, timeout, "timeout")
        digest = _digest_of(execution, about, f"what wait {name} is about")
        if accepts is not None and not callable(accepts):
            raise InvalidMessage(f"wait {name}: accepts is a function", actual=type(accepts).__name__)
        if inspect.iscoroutinefunction(accepts) or inspect.isgeneratorfunction(accepts):
            raise InvalidMessage(f"wait {name}: accepts is a plain function; a coroutine would decide nothing")
        while True:
            begun = Begun(0, WAIT, name, accepts=accepts)
            value = await execution.begin(begun, digest=digest, due=due, about=copy_plain(about))
            if accepts is None or find_refusal(accepts, value) is None:
                return value

    async def sleep(self, seconds: Seconds) -> None:
        """Wait for so many seconds, or a timedelta; the time goes on while nothing runs."""
        execution = current_execution(self)
        await execution.begin(Begun(0, SLEEP, "sleep"), digest=b"", due=_due(execution, seconds))

    async def ask(self, path: str | AgentPath, message: object) -> Any:
        """Ask another agent, once, and return its reply: it is sent again, with the same command id, until that comes.

        A durable message is handled to its end there. The message is one of duramen's, of a class under
        `@message_type`, or plain data; the reply is logged. Raises what the other agent's handler has raised, and
        before anything is begun UnknownMessageType, ValueRefused, TooLarge, InvalidPath.
        """
        return await begin_ask(current_execution(self), agent_path(path).text, message)

    async def send(self, path: str | AgentPath, message: object) -> Receipt:
        """Send another agent a durable message, once; the receipt says that it is in that agent's log.

        Raises InvalidMessage for a message whose type is not durable, and what `ask` raises.
        """
        execution = current_execution(self)
        registry = execution.call.turn.services.registry
        found: Receipt = await begin_ask(execution, agent_path(path).text, accept_of(registry, message))
        return found

    def now(self) -> datetime:
        """The time at which the handler went on last, aware, in UTC; the same in each run from the log."""
        return to_datetime(current_execution(self).now)

    def random(self, name: str = "random") -> float:
        """A number from 0 up to 1, another for each use of a name; the same in each run from the log."""
        drawn = current_execution(self).draw("random", require_name(name, "a random number"))
        return (int.from_bytes(drawn[:8], "big") >> (64 - _FRACTION_BITS)) / (1 << _FRACTION_BITS)

    def uuid(self, name: str = "uuid") -> UUID:
        """An id, another for each use of a name; the same in each run from the log."""
        return UUID(bytes=current_execution(self).draw("uuid", require_name(name, "an id"))[:16], version=4)

    @property
    def version(self) -> int:
        """The version of the durable message that is handled, as it was when the message was accepted."""
        return current_execution(self).identity.version


def begin_ask(execution: Execution, path: str, message: object) -> Pending:
    """Begin to ask another agent; the message crosses as it would to another process."""
    services = execution.call.turn.services
    serializer, identity = services.serializer, execution.identity
    if path == identity.agent and execution.is_exclusive:
        raise CallCycle(
            f"{path} would wait for itself: it handles no other message while it handles this one", agent=path
        )
    packed = serializer.pack_message(message)
    services.log_names.learn(path)
    is_work = services.registry.is_durable(type(message))
    begun = Begun(0, ASK, path, lambda _: serializer.unpack_message(packed), is_work=is_work)
    return execution.begin(begun, digest=sha256(packed).digest()[:_DIGEST])


def begin_in_background(execution: Execution, path: str, message: object) -> None:
    """As `begin_ask`, where the handler does not wait: the end of its work does."""
    execution.background.append(begin_ask(execution, path, message))


def accept_of(registry: EventRegistry, message: object) -> Accept:
    """What has an agent accept a durable message. Raises InvalidMessage, UnknownMessageType."""
    if not registry.is_durable(type(message)):
        raise InvalidMessage(
            f"{type(message).__name__} is not durable; declare it with @message_type(name, durable=True)"
        )
    name, version, data = registry.dump_message(message)
    return Accept(name, version, data)


def _call_function(
    function: Callable[..., Any], arguments: list[Any], is_once: bool, key: str | None, step_key: str
) -> Any:
    """Call the function of a step, with its own copies of the arguments, and its key as the one named `key`."""
    values, named = arguments if is_once else copy_plain(arguments)  # no other attempt gets them
    return function(*values, **named, **({} if key is None else {key: step_key}))


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    """As `inspect.iscoroutinefunction`, which takes five calls where one look says it: of an `async def`."""
    is_plain = type(function) is FunctionType and bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    return is_plain or inspect.iscoroutinefunction(function)


def _due(execution: Execution, seconds: Seconds, name: str = "seconds") -> int:
    """The time so many seconds after the stretch has begun, in µs."""
    return execution.now + int(timedelta(seconds=parse_seconds(name, seconds)) / timedelta(microseconds=1))


def _digest_of(execution: Execution, value: Any, what: str) -> bytes:
    """16 bytes over plain data. Raises ValueRefused, TooLarge."""
    turn = execution.call.turn
    check_value(value, turn.services.limits, what)
    return sha256(turn.codec.pack_exactly(value, what)).digest()[:_DIGEST]
