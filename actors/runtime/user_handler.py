"""Handling messages that only the user's own agent understands."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, cast

from duramen.events import DuramenError, Granularity, HandlerStopped, NewEvent
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import FAILED, Cause, event_id

from ..agent import Agent
from ..commands import ChildFailed, Strategy, Verdict, require_known, require_not_failed
from ..dispatch import Envelope, ProgramExit, ThreadPool, with_cause
from ..handlers import ActiveAgent, Turn

__all__ = ["ActiveUserAgent", "handle_custom", "run_soon"]


class ActiveUserAgent(ActiveAgent, Protocol):
    """The agent in memory, as whoever runs the user's own code sees it."""

    @property
    def agent(self) -> Agent: ...

    def give_up(self, turn: Turn, envelope: Envelope, error: BaseException) -> None:
        """A message broke the agent: its caller is told, and the agent comes back from its log. From any thread."""
        ...

    def drop(self, pause: float = 0.0) -> None:
        """Forget the state: whoever comes next, `pause` seconds from now, brings the agent back from its log."""
        ...


def handle_custom(runtime: ActiveUserAgent, turn: Turn, envelope: Envelope) -> None:
    """Let the agent's own handler run, in this worker thread or, if it is a coroutine, on the system's loop.

    All events it emits are one batch; an exception discards them and goes to the caller. What is meant to end a
    program (`SystemExit`) ends this agent's activation only.
    """
    scope = turn.all_or_nothing()
    try:
        require_known(runtime.state, runtime.path)
        require_not_failed(runtime.state, runtime.path)
        if envelope.command_id is not None:
            known = turn.recognise(envelope.command_id, envelope.message)
            if known is not None:
                turn.stage(envelope, known)
                runtime.services.dispatcher.post(lambda: runtime.finish(turn))
                return
    except DuramenError as error:
        turn.stage_error(envelope, error)
        runtime.services.dispatcher.post(lambda: runtime.finish(turn))
        return
    scope.__enter__()
    runtime.agent.begin(turn)
    handling = turn.handling(envelope)
    with with_cause(lambda: handling.message_cause(turn.state.seq)):
        try:
            value = runtime.agent.handle(envelope.message)
        except BaseException as error:
            _end(runtime, turn, envelope, scope, (None, error))
            return
        if inspect.iscoroutine(value):
            running = runtime.services.loop.start(cast("Coroutine[Any, Any, Any]", value))
            running.add_done_callback(lambda done: _end(runtime, turn, envelope, scope, _outcome(done)))
            return
    _end(runtime, turn, envelope, scope, (value, None))


def _outcome(done: Future[Any]) -> tuple[Any, BaseException | None]:
    if done.cancelled():
        return None, asyncio.CancelledError()  # the handler's own, or the end of the system
    try:
        return done.result(), None
    except ProgramExit as error:
        return None, error.__cause__
    except BaseException as error:
        return None, error


def _end(
    runtime: ActiveUserAgent, turn: Turn, envelope: Envelope, scope: Any, outcome: tuple[Any, BaseException | None]
) -> None:
    """The handler has returned or raised: keep its events, or leave no trace of them."""
    value, error = outcome
    runtime.agent.end()
    try:
        suppressed = scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        assert not suppressed
    except BaseException as raised:
        error = raised
    if error is None:
        turn.stage(envelope, value)
    elif isinstance(error, Exception):
        verdict = _judge(runtime, error)
        if verdict.strategy is not Strategy.RESUME:
            failure = error
            runtime.services.dispatcher.post(lambda: _carry_out(runtime, envelope, failure, verdict))
            return
        turn.stage_error(envelope, error)
    else:
        stopped = HandlerStopped(
            f"a handler of {runtime.path} raised {type(error).__name__}; only this agent was stopped, it comes back "
            "from its log with the next message",
            agent=runtime.path,
        )
        stopped.__cause__ = error
        runtime.give_up(turn, envelope, stopped)
        return
    runtime.services.dispatcher.post(lambda: runtime.finish(turn))


def _judge(runtime: ActiveUserAgent, error: Exception) -> Verdict:
    if isinstance(error, DuramenError):
        return Verdict(Strategy.RESUME)  # a refusal: what was asked for is at fault, not the agent
    return runtime.services.supervisor.judge(runtime.path, runtime.agent.supervision)


def _carry_out(runtime: ActiveUserAgent, envelope: Envelope, error: Exception, verdict: Verdict) -> None:
    """Do what supervision says about a failed handler; in the core."""
    state, services, kind = runtime.state, runtime.services, type(error).__name__
    get_logger("agent").error(
        "agent_failed",
        agent=runtime.path,
        seq=state.seq,
        session_id=state.session_id,
        error=kind,
        at=raised_at(error),
        strategy=verdict.strategy.value,
    )
    envelope.refuse(error)
    if verdict.strategy is Strategy.RESTART:
        runtime.drop(verdict.pause)
        return
    turn = Turn(runtime, services.codec)
    turn.emit(NewEvent(FAILED, {"error": kind}, granularity=Granularity.LIFECYCLE.value))
    parent = state.parent
    if verdict.strategy is Strategy.ESCALATE and parent is not None:
        told = Envelope(ChildFailed(runtime.path, kind), wanted=False)
        told.cause = Cause(event_id(runtime.path, state.seq), event_id(runtime.path, state.seq))
        turn.after += (lambda: services.actors.send(parent, told),)
    runtime.finish(turn)


def run_soon(workers: ThreadPool, effect: Callable[[], object], agent: str, seq: int) -> None:
    """Run an effect that waited for the commit; what it raises is logged and harms nothing."""

    def run() -> None:
        try:
            effect()
        except Exception as error:
            get_logger("agent").warning("after_commit_failed", agent=agent, seq=seq, error=type(error).__name__)

    workers.submit(run)
