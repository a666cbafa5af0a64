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
from duramen.events.model import DECLARED, FAILED, OWN_TYPES, Cause, Seconds, parse_seconds
from duramen.projections import AgentState
from duramen.projections.recorded import portrait
from duramen.projections.recovery import AgentLog, rebuild
from duramen.projections.state import RUNNING

from ..agent import Agent
from ..api import AgentSystem
from ..commands import DECIDERS, HANDLED, Batch, LifecycleResult, Message, Spawn
from ..dispatch import current_cause, with_cause

_KIND: Final = "specified"
_SECONDS: Final = 10.0
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

    def then(self, *expected: object) -> Then:
        """Expect exactly these events, in this order, and no error.

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

        The error of an unsuccessful lifecycle result counts too. `failed` events of supervision are ignored.
        """
        error = self.error
        if error is None:
            raise NotAsSpecified(f"{self.name} did not raise {kind.__name__}; it replied {portrait(self.reply)}")
        if not isinstance(error, kind) or match not in str(error):
            expected = f"{kind.__name__} with {match!r}" if match else kind.__name__
            raise NotAsSpecified(
                f"{self.name} raised {type(error).__name__}: {error}\ninstead of {expected}"
            ) from error
        self._compare("events", [], [_actual(event, self.registry) for event in self.events if event.type != FAILED])
        return self

    def replies(self, value: object) -> Then:
        """Expect this reply, equal in value and type."""
        self._expect_success()
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

    def given(self, *past: object) -> Specification:
        """Add to the past: events of the agent's own, and duramen's messages.

        Events are instances of registered classes; no handler needs to emit them. Messages (`Set`, `Batch`, `Pause`, …)
        are handled; a `Spawn` at the very beginning starts the session.
        """
        return evolve(self, past=(*self.past, *past))

    def when(self, message: object, *, command_id: str | None = None) -> Then:
        """Send a message and wait until it is handled and committed, and its effects after the commit are done.

        The result is of this message alone, also where the agent goes on by itself: with timers, or messages to itself.
        Raises InvalidMessage for an impossible past and for a durable message, what writing the past raises, and
        NotAsSpecified if the agent's state differs from a replay of its log.
        """
        if self.registry.is_durable(cast("type[Any]", type(message))):
            raise InvalidMessage(
                f"{type(message).__name__} is durable, and a specification runs one turn; test its handler with a "
                "system on memory://"
            )
        log, name = MemoryLog(partitions=1), type(message).__name__
        self._write(log)
        observer = _Observer(self.factory)
        with AgentSystem.open(log=log, agents={_KIND: observer.make}, registry=self.registry) as system:
            before = system.peek(self.path).seq
            with with_cause(lambda: Cause(observer.cause)):
                reply, error = self._ask(system, message, command_id)
            live = observer.state() if error is None else None
            system.close(self.timeout)  # with a time-out: a handler may never end
        events, end = self._own_events(log, before, observer, error)
        fold = self.factory().actor_fold(self.registry)
        again = rebuild(AgentLog(log, self.path, Limits()), fold_of=lambda _: fold, to_seq=end, use_snapshot=False)
        if live is not None and fold is not None and live != portrait(again.custom):
            raise NotAsSpecified(
                f"the state after {name} is not what replaying the log gives; let `apply` alone change it\n"
                f"- replayed {portrait(again.custom)}\n+ live     {live}"
            )
        return Then(name, events, reply, error, again.state.memory, again.custom, self.registry)

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
        with AgentSystem.open(log=log, agents={_KIND: _Writer}, registry=self.registry) as system:
            agent = system.agent(self.path)
            agent.ask(evolve(cast("Spawn", first), agent_type=_KIND)).raise_for_failure()
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
