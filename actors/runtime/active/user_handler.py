"""Running the user's own handler, and supervision of what it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from threading import Event
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, Protocol, cast

from duramen.events import (
    DuramenError,
    Granularity,
    HandlerRaised,
    HandlerStopped,
    InvalidMessage,
    NewEvent,
    ReplyRefused,
    TooLarge,
)
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import FAILED, Cause, copy_plain, event_id
from duramen.projections.state import PAUSED_STATUS, RUNNING

from ...agent import Agent
from ...commands import ChildFailed, Decision, Strategy, kind_of, require_running, to_caller_error
from ...dispatch import Envelope, ProgramExit
from ...handlers import ActiveAgent, HandlerCall, Savepoint, Services, Turn, read_reply, store_reply
from ...hosts import BEAT_WAIT_SECONDS
from ..append_errors import not_begun

_UNTRACED: Final = nullcontext()
_BEAT_PAUSE: Final = 0.02
"""Seconds between two looks at whether this host's beat has gone through."""


class ActiveUserAgent(ActiveAgent, Protocol):
    """The agent in memory, as its user's handler needs it."""

    @property
    def agent(self) -> Agent: ...

    def crash(self, turn: Turn, envelope: Envelope, error: BaseException) -> None:
        """Fail the caller's reply and drop the state, after a handler has failed. Callable from any thread."""
        ...

    def deactivate(self, pause: float = 0.0) -> None:
        """Drop the state: the next message, at the earliest in `pause` seconds, activates the agent from its log."""
        ...


def run_user_handler(runtime: ActiveUserAgent, turn: Turn, envelope: Envelope) -> None:
    """Run the agent's own handler: in this worker thread or, if it is a coroutine, on the system's event loop.

    All events it emits are one batch; an exception discards them and goes to the caller, as `HandlerRaised` unless it
    is a typed error. An exception that is meant to end a program (`SystemExit`) ends this agent's activation only.
    """
    try:
        _require_instance(envelope.message)
        if envelope.durability is not None:
            runtime.services.find_durability(envelope.durability)  # what cannot be reached is refused before it runs
        known = None if envelope.command_id is None else turn.find_command(envelope.command_id, envelope.message)
        if known is None:
            _wait_for_beat(runtime)
            if runtime.state.status != PAUSED_STATUS or runtime.agent.on_paused != "handle":
                require_running(runtime.state, runtime.path)
        else:  # also if the agent runs no more, as of every other command
            reply = read_reply(turn, known)
            turn.choose_durability(envelope.durability)
            turn.stage(envelope, reply)
    except DuramenError as error:
        turn.stage_error(envelope, error)
    if turn.envelopes:
        runtime.services.dispatcher.post(lambda: runtime.finish(turn))
        return
    run = _Run(runtime, turn, envelope)
    with run.call.running(), run.traced():
        try:
            value = runtime.agent.actor_handle(envelope.message)
        except BaseException as error:
            run.end(None, error)
            return
        result: type[Any] = cast("Any", type)(value)  # not isinstance: a reply's class may be code of the user's
        if result is GeneratorType or result is AsyncGeneratorType:
            kind = type(runtime.agent).__name__
            run.end(None, InvalidMessage(f"a handler of {kind} gave a generator; return a value instead of yielding"))
            return
        if result is CoroutineType:
            runtime.services.loop.start_task(cast("Coroutine[Any, Any, Any]", value), run.end_coroutine)
            return
    run.end(value, None)


def _require_instance(message: object) -> None:
    kind = type(message)  # isinstance would ask the message for its `__class__`, which may be code of the user's
    if issubclass(kind, type):
        raise InvalidMessage("a class is no message: send an instance of it", actual=kind.__name__)


def _wait_for_beat(runtime: ActiveUserAgent) -> None:
    """Wait while other hosts may take this one for dead: its beat may go through soon. Raises Unavailable."""
    may_begin = runtime.services.hosting.membership.may_begin
    if may_begin():
        return
    give_up_at, never = monotonic() + BEAT_WAIT_SECONDS, Event()
    while not may_begin():
        if monotonic() >= give_up_at:
            raise not_begun(runtime.path)
        never.wait(_BEAT_PAUSE)


class _Run:
    """One run of a handler: its turn, its call, and the savepoint that its failure returns to."""

    def __init__(self, runtime: ActiveUserAgent, turn: Turn, envelope: Envelope) -> None:
        self._runtime = runtime
        self._turn = turn
        self._envelope = envelope
        self._saved = Savepoint(turn)
        self.call = HandlerCall(turn, envelope.cause, envelope.command_id)
        tracing = runtime.services.tracing
        self._span = None if tracing is None else tracing.begin_handler(envelope, turn.traced_agent())

    def traced(self) -> AbstractContextManager[object]:
        """Have the spans of the handler's code lie inside its own, where messages are traced."""
        return _UNTRACED if self._span is None else self._span.running()

    def end_coroutine(self, done: asyncio.Task[Any]) -> None:
        """Finish with the outcome of the handler's coroutine; in the event loop's thread."""
        if done.cancelled():
            self.end(None, asyncio.CancelledError())  # by the handler itself, or at the end of the system
            return
        error = done.exception()
        if isinstance(error, ProgramExit):
            error = error.__cause__
        self.end(None if error is not None else done.result(), error)

    def end(self, value: Any, error: BaseException | None) -> None:
        """Finish the turn of a handler that has returned, or supervise one that has raised."""
        try:
            self._end(value, error)
        except BaseException as defect:
            self._runtime.crash(self._turn, self._envelope, defect)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.call.end()
        if self._span is not None:
            self._span.end(error)
        prepare = self._turn.before_commit
        if error is not None or prepare is None:
            self._stage(value, error)
            return

        def run() -> None:  # not here, which may be the event loop
            failure: BaseException | None = None
            try:
                prepare()
            except BaseException as raised:
                failure = raised
            try:
                self._stage(value, failure)
            except BaseException as defect:
                self._runtime.crash(self._turn, self._envelope, defect)

        self._runtime.services.thread_pool.submit(run)

    def _stage(self, value: Any, error: BaseException | None) -> None:
        """Stage the reply and hand the turn over, or roll it back and do what the supervision says."""
        runtime, turn, envelope = self._runtime, self._turn, self._envelope
        try:
            if error is None:
                self._saved.check_size(turn)
                if turn.command is not None and (turn.items or turn.state.status == RUNNING):
                    store_reply(turn, value)
        except TooLarge as oversize:
            error = oversize
        if error is not None:
            self._saved.restore(turn)
            self.call.end()  # at the seq that is left
        turn.undo = None
        if error is None:
            self._stage_reply(value)
        elif isinstance(error, Exception):
            decision = _judge(runtime, error)
            if decision.strategy is not Strategy.RESUME:
                failure = error
                runtime.services.dispatcher.post(lambda: self._supervise(failure, decision))
                return
            turn.stage_error(envelope, to_caller_error(error, runtime.path))
        else:
            stopped = HandlerStopped(
                f"a handler of {runtime.path} raised {type(error).__name__}; only this agent was stopped, it comes "
                "back from its log with the next message",
                agent=runtime.path,
            )
            stopped.__cause__ = error
            runtime.crash(turn, envelope, stopped)
            return
        runtime.services.loop.post(lambda: runtime.finish(turn))

    def _stage_reply(self, value: Any) -> None:
        turn, envelope, services = self._turn, self._envelope, self._runtime.services
        try:
            if services.settings.copy_messages and envelope.wanted:
                packed = services.serializer.pack_reply(value, turn.agent, turn.state.seq)
                reply = services.serializer.unpack_reply(packed, turn.agent, turn.state.seq)
            else:
                reply = copy_plain(value)
        except ReplyRefused as refused:
            turn.stage_error(envelope, refused)
            return
        if turn.items:
            turn.choose_durability(envelope.durability)
        turn.stage(envelope, reply)

    def _supervise(self, error: Exception, decision: Decision) -> None:
        try:
            _supervise(self._runtime, self._envelope, error, decision)
        except Exception as defect:
            self._runtime.crash(self._turn, self._envelope, defect)


def _judge(runtime: ActiveUserAgent, error: Exception) -> Decision:
    if isinstance(error, DuramenError) and not isinstance(error, HandlerRaised):
        return Decision(Strategy.RESUME)  # a refusal: the message is at fault, not the agent
    try:
        decision = runtime.services.supervisor.decide(runtime.path, runtime.agent.supervision)
    except Exception as invalid:  # of the user's class, which may compute it
        get_logger("agent").error("supervision_invalid", agent=runtime.path, error=type(invalid).__name__)
        decision = Decision(Strategy.STOP)
    if runtime.state.status != RUNNING and decision.strategy is not Strategy.RESTART:
        return Decision(Strategy.RESUME)  # `failed` would end the pause: a restart would then let the agent run
    return decision


def _supervise(runtime: ActiveUserAgent, envelope: Envelope, error: Exception, decision: Decision) -> None:
    """Carry out the decision on a failed handler; in the core."""
    state, services, kind = runtime.state, runtime.services, kind_of(error)
    get_logger("agent").error(
        "agent_failed",
        agent=runtime.path,
        seq=state.seq,
        session_id=state.session_id,
        error=kind,
        at=raised_at(error),
        strategy=decision.strategy.value,
    )
    envelope.refuse(to_caller_error(error, runtime.path))
    if decision.strategy is Strategy.RESTART:
        runtime.deactivate(decision.pause)
        return
    turn = Turn(runtime, services.codec)
    turn.emit(NewEvent(FAILED, {"error": kind}, granularity=Granularity.LIFECYCLE.value))
    parent = state.parent
    if decision.strategy is Strategy.ESCALATE and parent is not None and runtime.path.startswith(f"{parent}/"):
        notice = turn.send(parent, ChildFailed(runtime.path, kind))
        notice.cause = Cause(event_id(runtime.path, state.seq), event_id(runtime.path, state.seq))
    runtime.finish(turn)


def run_effect(services: Services, effect: Callable[[], object], agent: str, seq: int) -> None:
    """Run an effect in a worker thread, after the commit; its exception is only logged.

    It is held back while other hosts may take this one for dead, and not begun if the system closes meanwhile.
    """

    def run() -> None:
        may_begin, never = services.hosting.membership.may_begin, Event()
        while not may_begin():
            if services.actors.is_closed:
                get_logger("agent").warning("after_commit_not_begun", agent=agent, seq=seq, reason="no beat")
                return
            never.wait(_BEAT_PAUSE)
        try:
            effect()
        except Exception as error:
            get_logger("agent").warning("after_commit_failed", agent=agent, seq=seq, error=type(error).__name__)

    services.thread_pool.submit(run)
