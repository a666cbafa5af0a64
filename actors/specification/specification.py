"""The specification kit: unit tests of agents as given events, when a message, then events.

Nothing is simulated. Another agent writes the given events to a log in memory; the agent under test is recovered from
that log as after a restart, and handles the message in the real runtime.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from difflib import ndiff
from typing import Any, Final, cast
from uuid import uuid4

from attrs import Factory, evolve, frozen

from duramen.events import Event, EventRegistry, Granularity, HandlerRaised, InvalidMessage, Limits, MemoryLog
from duramen.events.codec import Codec
from duramen.events.log import read_events
from duramen.events.model import (
    DECLARED,
    FAILED,
    OWN_TYPES,
    WORK_ACCEPTED,
    WORK_ANSWERED,
    WORK_ATTEMPTED,
    WORK_BEGUN,
    WORK_CANCEL_SENT,
    WORK_CONTINUED,
    WORK_DONE,
    WORK_ENDED,
    WORK_GIVEN_UP,
    WORK_PARKED,
    WORK_RETRIED,
    WORK_TAKEN_UP,
    Cause,
    Seconds,
    parse_seconds,
)
from duramen.projections import AgentState
from duramen.projections.recorded import portrait
from duramen.projections.recovery import AgentLog, Rebuilt, rebuild
from duramen.projections.state import RUNNING, open_work

from ..agent import Agent
from ..api import AgentSystem
from ..commands import DECIDERS, HANDLED, Batch, LifecycleResult, Message, Spawn
from ..dispatch import current_cause, with_cause
from .scripted_work import KIND, RecordedLog, ScriptedWork, StepCall, WorkScript, replace_by

_SECONDS: Final = 10.0
_COURSE: Final = frozenset(
    (
        WORK_ACCEPTED,
        WORK_ANSWERED,
        WORK_ATTEMPTED,
        WORK_BEGUN,
        WORK_CANCEL_SENT,
        WORK_CONTINUED,
        WORK_DONE,
        WORK_ENDED,
        WORK_GIVEN_UP,
        WORK_PARKED,
        WORK_RETRIED,
        WORK_TAKEN_UP,
    )
)
"""The events of a durable handler's course, beside what it writes."""
_ANY_STATE: Final = AgentState(status=RUNNING, granularity=int(Granularity.TRACE))
"""One in which every mutation is accepted and every activity logged."""


class NotAsSpecified(AssertionError):
    """The agent did something unexpected; the message shows both, line by line."""


class _Writer(Agent):
    """Writes the given events, which the agent under test might refuse."""

    def on_receive(self, message: Any) -> None:
        for event in message:
            self.emit(event)


@frozen
class Then:
    """The result of a message. Each method raises NotAsSpecified, or returns this object for chaining."""

    name: str
    events: Sequence[Event]
    """The events of the message, as a reader of the log gets them."""
    reply: Any
    error: BaseException | None
    memory: dict[str, Any]
    state: Any
    """The state that `apply` folded from the agent's own events."""
    registry: EventRegistry
    begun: Sequence[str] = ()
    """The names of what a durable handler has begun: steps, waits, sleeps, and paths of agents that it asked."""
    waiting: Sequence[str] = ()
    """The names of what a durable handler waits for in the end."""
    is_durable: bool = False

    def then(self, *expected: object) -> Then:
        """Expect exactly these events, in this order, and no error. Those of a durable handler's course do not count.

        An instance stands for an event of the agent's own; `Set`, `Delete`, `Append`, `Extend`, `Merge`, `Record` for
        their events; `("paused", {...})` for an event by type and data, and `"paused"` for any event of that type.
        """
        self._expect_success()
        items = _operations(expected)
        actual = [
            event.type if items[at : at + 1] == [event.type] else _actual(event, self.registry)
            for at, event in enumerate(self.events)
        ]
        self._compare("events", [_expected(one) for one in items], actual)
        return self

    def nothing(self) -> Then:
        """Expect no event and no error."""
        return self.then()

    def raises(self, kind: type[BaseException], match: str = "") -> Then:
        """Expect no event, and an error of this type with `match` in its message.

        The error of an unsuccessful lifecycle result counts too. `failed` events of supervision are ignored. Of a
        durable handler that raises, what it wrote before it waited last is there, and is not compared.
        """
        error = self.error
        self._expect_end()
        if error is None:
            raise NotAsSpecified(f"{self.name} did not raise {kind.__name__}; it replied {portrait(self.reply)}")
        if not isinstance(error, kind) or match not in str(error):
            expected = f"{kind.__name__} with {match!r}" if match else kind.__name__
            raise NotAsSpecified(
                f"{self.name} raised {type(error).__name__}: {error}\ninstead of {expected}"
            ) from error
        if not self.is_durable:
            events = [_actual(event, self.registry) for event in self.events if event.type != FAILED]
            self._compare("events", [], events)
        return self

    def replies(self, value: object) -> Then:
        """Expect this reply, equal in value and type."""
        self._expect_success()
        self._expect_end()
        self._compare("reply", [portrait(value)], [portrait(self.reply)])
        return self

    def remembers(self, memory: Mapping[str, Any]) -> Then:
        """Expect exactly this working memory."""
        self._compare("working memory", _lines(dict(memory)), _lines(self.memory))
        return self

    def has_state(self, state: object) -> Then:
        """Expect this state of `apply`."""
        self._compare("state", [portrait(state)], [portrait(self.state)])
        return self

    def begins(self, *names: str) -> Then:
        """Expect exactly these steps, waits and sleeps (`"sleep"`), in the order in which they were begun."""
        self._compare("what was begun", list(names), list(self.begun))
        return self

    def waits_for(self, *names: str) -> Then:
        """Expect that the handler waits for this in the end, since no answer was given for it."""
        self._expect_success()
        self._compare("what is waited for", sorted(names), sorted(self.waiting))
        return self

    def _expect_end(self) -> None:
        if self.waiting:
            names = ", ".join(self.waiting)
            raise NotAsSpecified(f"{self.name} has no end: it waits for {names}; give answers, or say waits_for(…)")

    def _expect_success(self) -> None:
        if self.error is not None:
            kind = type(self.error).__name__
            raise NotAsSpecified(f"{self.name} raised {kind}: {self.error}") from self.error

    def _compare(self, what: str, expected: list[str], actual: list[str]) -> None:
        if expected != actual:
            lines = [line for line in ndiff(expected, actual) if not line.startswith("?")]
            raise NotAsSpecified("\n".join([f"{what} of {self.name}: - expected, + actual", *(lines or ["  (none)"])]))


class _Observer:
    """Tells the handling of one message from all else that the agent does: by a cause, and by how much it emitted."""

    def __init__(self, factory: Callable[[], Agent]) -> None:
        self._factory = factory
        self._made: list[Agent] = []
        self._state: str | None = None
        self.cause = f"when-{uuid4().hex}"
        """The causation id of the message's events, and of messages that its handler sent before it emitted any."""
        self.before: int | None = None
        """The seq before the handling."""
        self.count: int | None = None
        """How many events the agent's own handler emitted; None: it was not called."""

    def make(self) -> Agent:
        agent = self._factory()
        self._made.append(agent)
        handle = agent.actor_handle

        def observe(message: object) -> Any:
            if self.before is not None or current_cause().causation_id != self.cause:
                return handle(message)
            self.before = agent.seq
            value = handle(message)
            if inspect.iscoroutine(value):
                return self._observe_coroutine(agent, value)
            self._note_end(agent)
            return value

        vars(agent)["actor_handle"] = observe
        return agent

    async def _observe_coroutine(self, agent: Agent, value: Coroutine[Any, Any, Any]) -> Any:
        result = await value
        self._note_end(agent)
        return result

    def _note_end(self, agent: Agent) -> None:
        assert self.before is not None, "it has begun"
        self.count = agent.seq - self.before
        self._state = portrait(agent.state)

    def state(self) -> str | None:
        """The portrait of the state after the message; None where the agent was not needed for it."""
        return portrait(self._made[-1].state) if self.count is None and self._made else self._state


@frozen
class Specification:
    """An agent and its past. Immutable: each call returns a new specification."""

    factory: Callable[[], Agent]
    registry: EventRegistry = DECLARED
    path: str = "project/agent"
    timeout: float = _SECONDS
    past: Sequence[object] = Factory(tuple[object, ...])
    results: Mapping[str, Any] | None = None
    given_answers: Mapping[str, Any] = Factory(dict[str, Any])

    def steps(self, results: Mapping[str, Any]) -> Specification:
        """Say what the steps of durable handlers come to, by name: a result, an error to raise, or a function.

        Their own functions are not called; a function that is given here is called with their arguments. A step that
        is not named fails the specification. Without this, steps run.
        """
        return evolve(self, results={**(self.results or {}), **results})

    def answers(self, values: Mapping[str, Any]) -> Specification:
        """Give the answers to what durable handlers wait for, by name: a value, or a function of what it is about."""
        return evolve(self, given_answers={**self.given_answers, **values})

    def given(self, *past: object) -> Specification:
        """Add to the past: events of the agent's own, and duramen's messages.

        Events are instances of registered classes; no handler needs to emit them. Messages (`Set`, `Batch`, `Pause`, …)
        are handled; a `Spawn` at the very beginning starts the session.
        """
        return evolve(self, past=(*self.past, *past))

    def when(self, message: object, *, command_id: str | None = None) -> Then:
        """Send a message and wait until it is handled and committed, and its effects after the commit are done.

        The result is of this message alone, also where the agent goes on by itself: with timers, or messages to itself.
        A durable message is handled to its end, or to where it waits for an answer that was not given: sleeps and
        deadlines pass at once, and steps side by side end in the order in which they were begun.

        Raises InvalidMessage for an impossible past, what writing the past raises, and NotAsSpecified if the agent's
        state differs from a replay of its log.
        """
        if self.registry.is_durable(cast("type[Any]", type(message))):
            return self._when_durable(message, command_id or "when")
        log, name = MemoryLog(partitions=1), type(message).__name__
        self._write(log)
        observer = _Observer(self.factory)
        with AgentSystem.open(log=log, agents={KIND: observer.make}, registry=self.registry) as system:
            before = system.peek(self.path).seq
            with with_cause(lambda: Cause(observer.cause)):
                reply, error = self._ask(system, message, command_id)
            live = observer.state() if error is None else None
            system.close(self.timeout)  # with a time-out: a handler may never end
        events, end = self._own_events(log, before, observer, error)
        again = self._replay(log, name, live, end)
        return Then(name, events, reply, error, again.state.memory, again.custom, self.registry)

    def _replay(self, log: MemoryLog, name: str, live: str | None, end: int | None) -> Rebuilt:
        """The state that the log gives. Raises NotAsSpecified if the agent has another one."""
        fold = self.factory().actor_fold(self.registry)
        again = rebuild(AgentLog(log, self.path, Limits()), fold_of=lambda _: fold, to_seq=end, use_snapshot=False)
        if live is not None and fold is not None and live != portrait(again.custom):
            raise NotAsSpecified(
                f"the state after {name} is not what replaying the log gives; let `apply` alone change it\n"
                f"- replayed {portrait(again.custom)}\n+ live     {live}"
            )
        return again

    def _when_durable(self, message: object, command_id: str) -> Then:
        log, name, missing = RecordedLog(), type(message).__name__, list[str]()
        self._write(log)
        before = AgentLog(log, self.path, Limits()).head()
        log.time.time = max(log.time.time, before.updated_at)
        script = WorkScript(self._replacement(missing), self.given_answers)
        reply: Any = None
        error: BaseException | None = None
        waiting: list[str] = []
        with ScriptedWork(log, self.factory, script, registry=self.registry, seconds=self.timeout) as work:
            try:
                receipt = work.send(self.path, message, command_id)
                work.run()
                piece = open_work(work.state(self.path)).get(str(receipt.seq))
                if piece is None:
                    reply = work.system.agent(self.path).result(receipt, timeout=self.timeout)
                else:
                    waiting = [item["name"] for item in piece["pending"].values()]
            except HandlerRaised as raised:
                error = raised.__cause__ or raised  # one of this process, or of the built-in class it had
            except Exception as raised:
                error = raised
            live = portrait(work.made[-1].state) if work.made and error is None else None
        if missing:
            steps = ", ".join(map(repr, missing))
            raise NotAsSpecified(f"{name} begins steps that have no result here: {steps}; add them to steps({{…}})")
        events = list(read_events(log, self.path, Codec(Limits()), self.registry, from_seq=before.seq + 1))
        begun = [event.data["name"] for event in events if event.type == WORK_BEGUN]
        events = [evolve(event, causation_id=None) for event in events if event.type not in _COURSE]
        again = self._replay(log, name, live, None)
        memory, state = again.state.memory, again.custom
        return Then(name, events, reply, error, memory, state, self.registry, begun, waiting, is_durable=True)

    def _replacement(self, missing: list[str]) -> Callable[[StepCall, Callable[..., Any]], Callable[..., Any]]:
        """What is called in place of steps; it notes those that have no result."""
        results = self.results
        if results is None:
            return lambda call, function: function
        replace = replace_by(results)

        def strict(call: StepCall, function: Callable[..., Any]) -> Callable[..., Any]:
            if call.name not in results:
                missing.append(call.name)
                return replace_by({call.name: None})(call, function)
            return replace(call, function)

        return strict

    def _own_events(
        self, log: MemoryLog, before: int, observer: _Observer, error: BaseException | None
    ) -> tuple[list[Event], int]:
        """The events of the message, without the cause that told them apart; and the last seq of its handling."""
        logged = list(read_events(log, self.path, Codec(Limits()), self.registry, from_seq=before + 1))
        own = [event for event in logged if event.causation_id == observer.cause]
        if observer.count is not None:
            own = [event for event in own if event.data.get("kind") != HANDLED][: observer.count]
        if error is not None and not own:
            own = [event for event in logged if event.type == FAILED][:1]
        end = own[-1].seq if own else observer.before or before
        return [evolve(event, causation_id=None) for event in own], end

    def _ask(self, system: AgentSystem, message: object, command_id: str | None) -> tuple[Any, BaseException | None]:
        if command_id is not None and _is_message(message):
            message, command_id = evolve(cast("Any", message), command_id=command_id), None
        try:
            reply = system.agent(self.path).ask(message, timeout=self.timeout, command_id=command_id)
        except HandlerRaised as error:
            return None, error.__cause__ or error  # the exception itself, which may be of any class
        except Exception as error:
            return None, error
        return reply, reply.error if isinstance(reply, LifecycleResult) else None

    def _write(self, log: MemoryLog) -> None:
        past = list(self.past)
        first = past.pop(0) if past and isinstance(past[0], Spawn) else Spawn()
        with AgentSystem.open(log=log, agents={KIND: _Writer}, registry=self.registry) as system:
            agent = system.agent(self.path)
            agent.ask(evolve(cast("Spawn", first), agent_type=KIND)).raise_for_failure()
            for one in past:
                known = _is_message(one)
                if not known and type(one) not in self.registry.types().values():
                    raise InvalidMessage(
                        f"{type(one).__name__} cannot be given: neither an event type nor one of duramen's messages"
                    )
                reply = agent.ask(one if known else [one])
                if isinstance(reply, LifecycleResult):
                    reply.raise_for_failure()


def spec(
    agent: Callable[[], Agent],
    *,
    registry: EventRegistry = DECLARED,
    path: str = "project/agent",
    timeout: Seconds = _SECONDS,
) -> Specification:
    """Begin a specification of an `Agent` subclass, or of a function without arguments that makes an agent.

    Handling the message may take `timeout` seconds, or a timedelta.
    """
    if not callable(agent):
        raise InvalidMessage("takes an Agent subclass, or a function that makes an agent", actual=type(agent).__name__)
    return Specification(agent, registry, path, parse_seconds("timeout", timeout))


def _is_message(one: object) -> bool:
    return isinstance(one, Message)


def _operations(expected: Sequence[object]) -> list[object]:
    """The expected events, with each `Batch` replaced by its operations."""
    return [part for one in expected for part in (one.operations if isinstance(one, Batch) else [one])]


def _line(kind: str, data: dict[str, Any]) -> str:
    return f"{kind} {portrait(data)}"


def _lines(memory: dict[str, Any]) -> list[str]:
    return sorted(f"{key!r}: {portrait(value)}" for key, value in memory.items())


def _expected(one: object) -> str:
    match one:
        case str():
            return one
        case tuple():
            kind, data = cast("tuple[str, object]", one)
            return f"{kind} {portrait(data)}"
        case _ if (decide := DECIDERS.get(cast("type[Any]", type(one)))) is not None:
            [event] = decide(_ANY_STATE, one, Limits(), "")
            return _line(event.type, event.data)
        case _ if _is_message(one):
            raise InvalidMessage(f"{type(one).__name__} stands for no single event; name the event's type instead")
        case _:
            return portrait(one)


def _actual(event: Event, registry: EventRegistry) -> str:
    if event.type in OWN_TYPES:
        return _line(event.type, event.data)
    return portrait(registry.load(event.type, registry.current_version(event.type), event.data))
