"""The actor to subclass."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NoReturn, TypeVar, Unpack, cast
from uuid import uuid4

import pykka
import pykka.messages
from attrs import fields, frozen

from duramen.events import (
    AgentPath,
    EventRegistry,
    Granularity,
    InvalidMessage,
    NewEvent,
    PathNotFound,
    PropertyPath,
    SystemClosed,
    TooLarge,
    UnknownAgentType,
    UnknownEventType,
)
from duramen.events import property_segments as segments_of
from duramen.events.codec import RawEvent
from duramen.events.model import Seconds, check_value, contents_in, copy_plain
from duramen.projections.recovery import CustomFold
from duramen.projections.state import REQUIRED, copy_tree, lookup

from .commands import (
    DEFAULT_TTL,
    AdoptChild,
    Append,
    ChildFailed,
    Delete,
    Extend,
    Merge,
    Message,
    Missed,
    Operation,
    Outcome,
    OutcomeText,
    Pause,
    Pop,
    Record,
    Set,
    Slice,
    SpawnArguments,
    Strategy,
    Supervision,
    Terminate,
    WhenPaused,
    make_remind,
    require_running,
    spawn_message,
)
from .dispatch import Envelope, Inbox, Timer, bind_cause
from .handlers import (
    ActiveAgent,
    HandlerCall,
    OutputWriter,
    Turn,
    announce_child,
    apply_operation,
    current_call,
    keys_at,
    length_of,
    pause_self,
    pop_value,
    remove_reminder,
    set_reminder,
    slice_of,
    storing,
    terminate_self,
    values_at,
)
from .work import DurableAwaits, WorkCall, accept_of, begin_in_background, refuse_in_step

if TYPE_CHECKING:
    # Type checkers need the default, which `typing` has from Python 3.13 on. They bring typing_extensions with them.
    from typing_extensions import TypeVar as TypeVarWithDefault

    S = TypeVarWithDefault("S", default=Any)
else:
    S = TypeVar("S")

__all__ = ["Agent"]

T = TypeVar("T")


def _lazy(make: Callable[[Any], T]) -> T:
    """An attribute that is made as `make(instance)` when it is first read, once even if two threads read it together.

    To type checkers it is what `make` returns.
    """
    return cast("T", _Lazy(make))


class _Lazy:
    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make: Final = make
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        own = cast("dict[str, Any]", instance.__dict__)
        return own.setdefault(self._name, self._make(instance))


_TAKES_CONTENT: Final = re.compile(r"\bContent\b")
"""In the type of a field, which is a text where annotations are not evaluated."""


@frozen
class _OwnEvent(Message[None]):
    """An event of the agent's own that is too large. `data` are its fields, with or without what is stored."""

    content_field: ClassVar = "data"

    event: Any
    emitted: NewEvent
    data: dict[str, Any]


def _require_content_fields(own: _OwnEvent, replaced: Sequence[str]) -> None:
    """Raise TooLarge unless these fields of an event are declared to take a `Content`."""
    for field in fields(cast("type[Any]", type(own.event))):
        names = {field.name, field.alias}
        if names.intersection(replaced) and not _TAKES_CONTENT.search(str(field.type)):
            raise TooLarge(
                f"{field.name} of a {own.emitted.type} is too large for an event; declare it as `str | Content`, or "
                "`bytes | Content`, to have it stored beside the log",
            )


class _System:
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        system = instance.actor_runtime().services.system()
        if system is None:
            raise SystemClosed("the system of this agent is gone", agent=instance.path)
        return system


class Agent(DurableAwaits, pykka.Actor, Generic[S]):
    """A long-running agent: an actor whose state is the fold of its log.

    Subclass it, register the class under an agent type, and handle messages of your own in `on_receive`; the
    lifecycle and memory messages are handled already. An object lives for one activation: it is made without
    arguments (or by your factory) when a message arrives for an agent that is not in memory, and dropped when the
    agent is passivated, fenced or crashes. Data that must outlive it belongs in working memory or events.

    `on_receive` runs in a worker thread and may block, or is a coroutine function and runs on the system's event
    loop; one message at a time either way. Everything it emits, sets and appends is one atomic batch: committed
    before the reply leaves, discarded without a trace if it raises. Replay calls `apply`, never `on_receive`.

    `class Researcher(Agent[dict[str, int]])` says the type of the state that `apply` folds, for type checkers alone;
    in `class Researcher(Agent)` it is Any.
    """

    supervision: ClassVar[Supervision | Strategy] = Supervision()
    """The policy for handlers that raise, or its strategy alone. duramen's own errors are refusals, not failures."""

    own_thread: ClassVar[bool] = False
    """Whether messages are handled in a thread that only this agent uses, for libraries that need one thread."""

    on_paused: ClassVar[Literal["refuse", "handle"]] = "refuse"
    """What a paused agent does with messages of its own. `refuse`: its handler does not start, the caller gets
    AgentPaused; a pause with `when_paused="stash"` stashes them instead. `handle`: its handler runs, but cannot write.
    """

    state_version: ClassVar[int] = 1
    """Increase it when `apply` folds to another form: snapshots of the old form are then ignored.

    Agent type and version alone identify the fold, so the class may be renamed.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        others = [base for base in cls.__mro__ if base not in Agent.__mro__]
        for name in _RESERVED:
            replaced = inspect.getattr_static(cls, name) is not inspect.getattr_static(Agent, name)
            if replaced or any(name in vars(base) for base in others):  # a base class behind Agent is never asked
                raise InvalidMessage(f"{cls.__name__}.{name} would replace {_RESERVED[name]}")
        _check_settings(cls)
        _check_methods(cls)

    _actor_runtime: ActiveAgent | None = None
    _actor_inbox_was_early: bool = False
    """Whether the inbox was read before the agent ran, by its own `__init__` or a factory."""

    # -- to override ---------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        """Handle a message that is not one of duramen's own, and return the reply."""
        runtime = self.actor_runtime()
        kind = runtime.state.agent_type
        if kind is not None and kind not in runtime.services.agents:
            raise UnknownAgentType(
                f"agent type {kind!r} of {self.path} is not registered in this process; give its class to "
                "AgentSystem.open(agents=...) or system.register(...)",
                agent=self.path,
                actual=kind,
            )
        if type(self) is Agent:
            raise InvalidMessage(
                f"{self.path} is a plain agent without messages of its own; spawn it with the agent_type of a "
                "registered Agent subclass",
                agent=self.path,
            )
        raise InvalidMessage(f"{type(self).__name__} does not understand {type(message).__name__}", agent=self.path)

    def actor_check_names(self) -> None:
        """Raise InvalidMessage if the object has a value in the place of a call that all agents have.

        A function may stand there: tests, and the specification kit, answer calls by one.
        """
        own = vars(self)
        for name in own.keys() & _CALLS:
            if not callable(own[name]):
                raise InvalidMessage(f"self.{name} of {type(self).__name__} would replace {_RESERVED[name]}")

    def initial(self) -> S:
        """The state that `apply` starts from: plain data, a new object at each call. None unless overridden.

        An agent whose initial state is not plain data cannot be brought into memory: ValueRefused.
        """
        return cast("S", None)

    def apply(self, state: S, event: Any) -> S:
        """The state after one of the agent's own events, an instance of its class. Pure.

        The state is plain data, with text keys: `emit` raises ValueRefused for one that could not be stored.
        """
        return state

    def on_child_failed(self, path: str, error: str) -> Any:
        """Handle the failure of a sub-agent that escalates; `error` is the exception's type.

        It may send `Restart` to the child, or raise: then this agent's own supervision decides.
        """

    # -- for handlers ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The agent path, as text; of a handler that a fork runs again from its log, the one that it had then."""
        runtime, call = self.actor_runtime(), current_call()
        return runtime.path if call is None or call.runtime is not runtime else call.turn.agent

    @property
    def session_id(self) -> str | None:
        with self._actor_reading() as runtime:
            return runtime.state.session_id

    @property
    def seq(self) -> int:
        """Position in the log, including the events of this handler so far."""
        with self._actor_reading() as runtime:
            return runtime.state.seq

    @property
    def command_id(self) -> str | None:
        """The command id of the message that this handler handles; None for a message without one."""
        return self._actor_call().command_id

    system: Any = _System()
    """The `AgentSystem` that runs this agent; a subclass may put a system of its own there.

    Its calls are not part of the handler's batch. A handler must not wait for itself: use `tell` or `block=False`.
    """

    @property
    def state(self) -> S:
        """A copy of the state that `apply` has folded so far. To change the state, emit an event."""
        with self._actor_reading() as runtime:
            return cast("S", copy_tree(runtime.custom))

    def emit(self, event: object) -> None:
        """Emit one of the agent's own events: an instance of a class declared with `@event_type`.

        Where the event would be too large, texts and bytes of fields that are declared as `str | Content`, say, are
        stored beside the log: `apply`, and whoever reads the event, gets the `Content`.

        Raises UnknownEventType, ValueRefused, TooLarge, AgentPaused; the handler may catch them and go on.
        """
        with self._actor_call() as turn:
            require_running(turn.state, turn.agent)
            name, version, data = turn.services.registry.dump(event)
            emitted = NewEvent(name, data, version)
            try:
                self._actor_emit(turn, emitted, event)
            except TooLarge:
                storing(self._actor_emit_large)(turn, _OwnEvent(event, emitted, data))

    def _actor_emit_large(self, turn: Turn, own: _OwnEvent) -> None:
        """Emit an event whose texts and bytes may be stored beside the log."""
        replaced = [name for name, value in own.data.items() if any(contents_in(value))]
        _require_content_fields(own, replaced)
        self._actor_emit(turn, own.emitted._replace(data=own.data), None if replaced else own.event)

    def _actor_emit(self, turn: Turn, emitted: NewEvent, event: object) -> None:
        """Emit an event that comes back equal to `event`; to its own fields, if that is None."""
        runtime, registry = turn.runtime, turn.services.registry
        name, data, version, *_ = emitted
        check_value(data, turn.services.limits, name)
        own = registry.load(name, version, turn.codec.copy(data))  # shares nothing with the caller's event
        if (registry.dump(own)[2] != data) if event is None else (own != event):
            raise InvalidMessage(f"event type {name!r} does not come back equal from its own fields; use plain data")
        folded = self.apply(
            cast("S", copy_tree(runtime.custom)), own
        )  # first: an event that `apply` refuses is not emitted
        turn.codec.pack_exactly(folded, f"the state after {name}")
        turn.emit(emitted)
        runtime.custom = folded

    def set(self, path: str | PropertyPath, value: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.set`, within this handler's batch."""
        self._actor_mutate(Set(path, value, metadata=metadata))

    def delete(self, path: str | PropertyPath, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.delete`, within this handler's batch."""
        self._actor_mutate(Delete(path, metadata=metadata))

    def append(self, path: str | PropertyPath, value: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.append`, within this handler's batch."""
        self._actor_mutate(Append(path, value, metadata=metadata))

    def extend(
        self, path: str | PropertyPath, values: Sequence[Any], *, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """As `AgentHandle.extend`, within this handler's batch."""
        self._actor_mutate(Extend(path, values, metadata=metadata))

    def merge(self, path: str | PropertyPath, patch: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
        """As `AgentHandle.merge`, within this handler's batch."""
        self._actor_mutate(Merge(path, patch, metadata=metadata))

    def pop(
        self,
        path: str | PropertyPath,
        key: int | str = -1,
        default: Any = REQUIRED,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """As `AgentHandle.pop`, within this handler's batch."""
        with self._actor_call() as turn:
            return pop_value(turn, Pop(path, key, default, metadata=metadata))

    def record(
        self,
        kind: str,
        data: Any = None,
        *,
        level: Granularity = Granularity.ACTIVITY,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """As `AgentHandle.record`, within this handler's batch."""
        self._actor_mutate(Record(kind, data, level, metadata=metadata))

    def stream(self, name: str, *, ttl: Seconds = 3_600.0) -> OutputWriter:
        """As `AgentHandle.stream`; the whole text is recorded within this handler's batch.

        Use `async with` in a coroutine. Readers see the end when the block ends, before the batch is committed.
        """
        return self.actor_runtime().services.outputs.open(self.path, name, self.record, ttl)

    def _actor_mutate(self, operation: Operation) -> None:
        with self._actor_call() as turn:
            storing(apply_operation)(turn, operation)

    def get(self, path: str | PropertyPath = "", default: Any = REQUIRED) -> Any:
        """The value at a property path, as a copy, with this handler's changes so far. Raises PathNotFound."""
        try:
            with self._actor_reading() as runtime:
                return copy_tree(lookup(runtime.state.memory, segments_of(path)))
        except PathNotFound:
            if default is REQUIRED:
                raise
            return default

    def get_many(self, paths: Sequence[str | PropertyPath], default: Any = REQUIRED) -> list[Any]:
        """Copies of the values at several property paths, with this handler's changes so far. Raises PathNotFound."""
        with self._actor_reading() as runtime:
            return [
                value if value is default else copy_tree(value) for value in values_at(runtime.state, paths, default)
            ]

    def length(self, path: str | PropertyPath = "") -> int:
        """The number of elements or keys at a property path, with this handler's changes so far.

        Raises PathNotFound, and InvalidPath for a path that leads to a scalar.
        """
        with self._actor_reading() as runtime:
            return length_of(runtime.state, path, runtime.path)

    def slice(self, path: str | PropertyPath, start: int | None = None, stop: int | None = None) -> list[Any]:
        """A copy of a part of the list at a property path, with this handler's changes so far.

        Raises PathNotFound, and InvalidPath for a path that leads to another value.
        """
        with self._actor_reading() as runtime:
            return [copy_tree(held) for held in slice_of(runtime.state, Slice(path, start, stop), runtime.path)]

    def keys(self, path: str | PropertyPath = "") -> list[str]:
        """The keys of the subtree at a property path, with this handler's changes so far.

        Raises PathNotFound, and InvalidPath for a path that leads to another value.
        """
        with self._actor_reading() as runtime:
            return keys_at(runtime.state, path, runtime.path)

    def pause(
        self,
        checkpoint_id: str | None = None,
        *,
        ttl: Seconds | None = DEFAULT_TTL,
        metadata: Mapping[str, Any] | None = None,
        when_paused: WhenPaused = "refuse",
        reason: str | None = None,
    ) -> None:
        """Pause this agent, within this handler's batch: the checkpoint holds what the handler has done so far.

        The handler goes on, but cannot write any more. Hooks run after the commit.
        """
        message = Pause(
            checkpoint_id=checkpoint_id,
            ttl=ttl,
            metadata=metadata or {},
            when_paused=when_paused,
            reason=reason,
        )
        with self._actor_call() as turn:
            pause_self(turn, message)

    def terminate(
        self,
        outcome: Outcome | OutcomeText = Outcome.SUCCESS,
        *,
        task_description: str | None = None,
        outcome_details: Any = None,
        lessons_learned: Sequence[str] = (),
        context_summary: str | None = None,
        importance_score: float = 0.6,
        reason: str | None = None,
        consolidate_to_episodic: bool = True,
        cleanup_working: bool = True,
        cascade: bool = True,
    ) -> None:
        """End this agent's session, within this handler's batch; arguments as of `AgentHandle.terminate`.

        The handler goes on, but cannot write any more. When it has returned, its sub-agents are ended, before the
        commit; an error there discards what the handler has done. Hooks run after the commit. Blocks: the session's
        events are read from the log for its episode.
        """
        message = Terminate(
            outcome=outcome,
            task_description=task_description,
            outcome_details=outcome_details,
            lessons_learned=lessons_learned,
            context_summary=context_summary,
            importance_score=importance_score,
            reason=reason,
            consolidate_to_episodic=consolidate_to_episodic,
            cleanup_working=cleanup_working,
            cascade=cascade,
        )
        with self._actor_call() as turn:
            terminate_self(turn, message)

    def spawn_child(self, name: str, *, outlives_parent: bool = False, **arguments: Unpack[SpawnArguments]) -> Any:
        """Spawn a sub-agent, with the arguments of `AgentSystem.spawn`, and return its handle.

        This agent's log records the child within the handler's batch; the child is spawned after the commit, and asked
        before then, it is not found. A child that cannot be spawned after all is logged, and does not exist. In a
        handler of a durable message, the child is spawned also if this process dies after the commit.
        """
        call = self._actor_call()
        with call as turn:
            child = AgentPath.parse(turn.agent).child(name).text
            message = spawn_message(parent=turn.agent, **arguments)
            is_durable = isinstance(call, WorkCall)
            announce_child(turn, AdoptChild(child, outlives_parent), message, send=not is_durable)
            if isinstance(call, WorkCall):
                begin_in_background(call.execution, child, message)
        return self.system.agent(child)

    def tell_self(self, message: object) -> None:
        """Send this agent a message once this handler's batch is in the log: it is handled after those that wait.

        A handler that raises sends nothing. A crash after the commit loses the message.
        """
        with self._actor_call() as turn:
            turn.send(turn.agent, copy_plain(message))

    def after_commit(self, effect: Callable[[], object]) -> None:
        """Call `effect` in a worker thread once this handler's batch is in the log; never in a replay.

        A handler that raises discards its effects. A crash between commit and effect loses the effect: it is called
        at most once.
        """
        with self._actor_call() as turn:
            turn.effects += (bind_cause(effect),)

    def remind(
        self,
        name: str,
        message: object,
        *,
        at: datetime | None = None,
        every: Seconds | None = None,
        missed: Missed = "once",
    ) -> None:
        """As `AgentHandle.remind`, within this handler's batch."""
        with self._actor_call() as turn:
            accepted = accept_of(turn.services.registry, message)
            set_reminder(turn, make_remind(name, accepted, at=at, every=every, missed=missed))

    def remove_reminder(self, name: str) -> None:
        """Remove a reminder of this agent within this handler's batch, if there is one of this name."""
        with self._actor_call() as turn:
            remove_reminder(turn, name)

    def schedule_once(self, seconds: Seconds, message: object) -> Timer:
        """Send this agent `message` once, `seconds` from now (a number, or a timedelta).

        A timer of a handler starts when the handler's batch is committed; a handler that raises has set none. Timers
        live in memory: a crash, a take-over by another process or `terminate` ends them; an agent that has one is not
        passivated.
        """
        return self._actor_schedule(seconds, message, repeat=False)

    def schedule_every(self, seconds: Seconds, message: object) -> Timer:
        """Send this agent `message` every `seconds`, until the timer is cancelled; see `schedule_once`."""
        return self._actor_schedule(seconds, message, repeat=True)

    def _actor_schedule(self, seconds: Seconds, message: object, *, repeat: bool) -> Timer:
        timer, start = self.actor_runtime().timers.prepare(seconds, message, repeat=repeat)
        if current_call() is None:
            start()
        else:
            with self._actor_call() as turn:
                turn.effects += (start,)
        return timer

    # -- for the runtime -----------------------------------------------------------------------------------------------

    def actor_activate(self, runtime: ActiveAgent) -> None:
        """Run on `runtime` from now on; called once."""
        self._actor_runtime = runtime
        if self._actor_inbox_was_early:
            for made in ("actor_inbox", "_actor_ref"):
                vars(self).pop(made, None)

    def actor_handle(self, message: object) -> Any:
        """Call the handler of a message."""
        if isinstance(message, ChildFailed):
            return self.on_child_failed(message.path, message.error)
        return self._handle_receive(message)  # Pykka's: it knows proxies, and calls `on_receive` for the rest

    def actor_is_coroutine(self, message: object) -> bool:
        """Whether `actor_handle` of this message only makes a coroutine, which blocks nobody."""
        own, kind = type(self).on_receive, type(message)
        return (
            inspect.iscoroutinefunction(own) and kind.__module__ != pykka.messages.__name__ and kind is not ChildFailed
        )

    def actor_fold_version(self) -> str:
        """The form of the custom state, among those of its agent type; empty for a class without an `apply`."""
        return "" if type(self).apply is Agent.apply else str(self.state_version)

    def actor_fold(self, registry: EventRegistry) -> CustomFold | None:
        """The fold of the agent's own events; None for a class without an `apply`."""
        if type(self).apply is Agent.apply:
            return None

        def apply(state: Any, raw: RawEvent) -> Any:
            if not registry.has_type(raw[0]):
                raise UnknownEventType(
                    f"event type {raw[0]!r} is not registered here; import the module that declares it",
                    actual=raw[0],
                )
            return self.apply(state, registry.load(raw[0], raw[1], raw[4]))

        former = f"{type(self).__name__}/{self.state_version}"
        return CustomFold(self.actor_fold_version(), lambda: copy_tree(cast("Any", self.initial())), apply, former)

    def actor_runtime(self) -> ActiveAgent:
        """The agent in memory. Raises InvalidMessage for an object that does not run."""
        if self._actor_runtime is None:
            raise InvalidMessage("this agent is not running; agents are started by system.spawn(...)")
        return self._actor_runtime

    @contextmanager
    def _actor_reading(self) -> Generator[ActiveAgent]:
        """Read within the handler's call; outside of handlers, read the state as it is at that moment."""
        runtime, call = self.actor_runtime(), current_call()
        if call is None or call.runtime is not runtime:
            refuse_in_step(runtime.path)
            yield runtime
        else:
            with call as turn:
                yield turn.runtime

    def _actor_call(self) -> HandlerCall:
        call = current_call()
        if call is None or call.runtime is not self._actor_runtime:
            refuse_in_step(None if self._actor_runtime is None else self._actor_runtime.path)
            raise InvalidMessage(
                "only for a handler of this agent, in its own task or thread, or in one that has its context "
                "(asyncio.to_thread, contextvars.copy_context().run); from elsewhere, send the agent a message"
            )
        return call

    # -- the attributes of every Pykka actor, made only when read: they take 1.5 kB ------------------------------------

    actor_urn = _lazy(lambda _: uuid4().urn)
    actor_stopped = _lazy(lambda _: Event())
    actor_inbox = _lazy(lambda agent: agent.actor_make_inbox())
    _actor_ref = _lazy(pykka.ActorRef)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Make an agent that does not run yet; a subclass may have an `__init__` of its own."""

    def actor_make_inbox(self) -> Inbox:
        """The inbox that Pykka's references put messages into."""
        if self._actor_runtime is None:
            self._actor_inbox_was_early = True
            return Inbox.detached()
        return self._actor_runtime.inbox()

    # -- Pykka's three, for implementors of actor types ----------------------------------------------------------------

    @classmethod
    def start(cls, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Not for agents: raises InvalidMessage. Agents are started by `system.spawn`."""
        raise InvalidMessage(f"register {cls.__name__} under an agent type and start it with system.spawn(...)")

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox.detached()

    @staticmethod
    def _create_future() -> Envelope:
        return Envelope()

    def _start_actor_loop(self) -> NoReturn:
        # An agent has no loop: the dispatcher runs agents with messages. Nor is it ever in Pykka's registry, a list
        # that is searched from its start when an actor leaves.
        raise InvalidMessage("agents are run by their system's dispatcher")


def _reserved() -> dict[str, str]:
    """The names that a subclass must not have, and what each of them is."""
    names = {name for name in dir(Agent) if not name.startswith(("__", "_abc_"))}
    names -= {"on_receive", "initial", "apply", "on_child_failed"}
    names -= {"supervision", "own_thread", "on_paused", "state_version", "system"}
    reserved = dict.fromkeys(names, "a call or an attribute that every agent has; choose another name")
    hook = "a hook that is never called, as agents leave memory and come back: use __init__, on_receive or system.hooks"
    return reserved | dict.fromkeys(("on_start", "on_stop", "on_failure"), hook)


_RESERVED: Final[Mapping[str, str]] = _reserved()
_CALLS: Final = frozenset(name for name in _RESERVED if callable(inspect.getattr_static(Agent, name)))


def _check_settings(cls: type[Agent[Any]]) -> None:
    """Raise InvalidMessage for attributes with values that agents cannot run by; what is computed is not looked at."""
    given: dict[str, object] = {
        name: inspect.getattr_static(cls, name) for name in ("supervision", "own_thread", "on_paused", "state_version")
    }
    fixed: dict[str, Any] = {name: value for name, value in given.items() if not hasattr(value, "__get__")}
    if fixed.get("on_paused", "refuse") not in ("refuse", "handle"):
        raise InvalidMessage(f"{cls.__name__}.on_paused is 'refuse' or 'handle'")
    if type(fixed.get("own_thread", False)) is not bool:
        raise InvalidMessage(f"{cls.__name__}.own_thread is True or False", actual=fixed["own_thread"])
    if type(fixed.get("state_version", 1)) is not int:
        raise InvalidMessage(f"{cls.__name__}.state_version is a whole number", actual=fixed["state_version"])
    if not isinstance(fixed.get("supervision", Agent.supervision), Supervision):
        Supervision(strategy=fixed["supervision"])


def _check_methods(cls: type[Agent[Any]]) -> None:
    """Raise InvalidMessage for a class whose own methods cannot be called as they will be."""
    for name in ("on_receive", "on_child_failed", "initial", "apply"):
        method = getattr(cls, name)
        if not callable(method):
            raise InvalidMessage(f"{cls.__name__}.{name} is a method", actual=type(method).__name__)
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise InvalidMessage(f"{cls.__name__}.{name} is a generator; return a value instead of yielding")
        if name in ("initial", "apply") and inspect.iscoroutinefunction(method):
            raise InvalidMessage(f"{cls.__name__}.{name} is a coroutine; a log is folded without waiting: use `def`")
