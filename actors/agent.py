"""The actor to subclass."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar, cast
from uuid import uuid4

import pykka

from duramen.events import EventRegistry, Granularity, InvalidMessage, NewEvent, PathNotFound, UnknownEventType
from duramen.events import property_segments as segments_of
from duramen.events.codec import RawEvent
from duramen.events.model import check_value
from duramen.projections.recovery import CustomFold
from duramen.projections.state import REQUIRED, copy_tree, lookup

from .commands import Append, ChildFailed, Delete, Merge, Record, Set, Supervision, require_running
from .dispatch import Envelope, Inbox, Timer, bind_cause
from .handlers import apply_operation

if TYPE_CHECKING:
    from .handlers import ActiveAgent, Turn

__all__ = ["Agent"]

T = TypeVar("T")


def _lazily(make: Callable[[Any], T]) -> T:
    """A class attribute that becomes the instance's own at the first look, as `make(instance)`; then it costs nothing.

    Two threads that look at once get the same object. To type checkers it is what `make` returns.
    """
    return cast("T", _Lazily(make))


class _Lazily:
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


class Agent(pykka.Actor):
    """A long-running agent: an actor whose state is the fold of its log.

    Subclass it, register the class under an agent type, and handle messages of your own in `on_receive`; the
    lifecycle and memory messages are understood already. An object lives for one activation: it is made without
    arguments (or by your factory) when a message arrives for an agent that is not in memory, and dropped when the
    agent is passivated, fenced or crashes. What must outlive it belongs into working memory or events.

    `on_receive` runs in a worker thread and may block, or is a coroutine function and runs on the system's event
    loop; one message at a time either way. All it emits, sets, appends is one atomic batch: committed before the
    reply leaves, discarded without a trace if it raises. Replay calls `apply`, never `on_receive`.
    """

    supervision: ClassVar[Supervision] = Supervision()
    """What becomes of an agent of this class whose handler raises. duramen's own errors are refusals, not failures."""

    own_thread: ClassVar[bool] = False
    """Handle messages in a thread that only this agent uses, for libraries that insist on one thread."""

    state_version: ClassVar[int] = 1
    """Raise it when `apply` folds to another form: snapshots of the old form are then ignored."""

    _runtime: ActiveAgent | None = None
    _turn: Turn | None = None
    _looked_at_early: bool = False
    """Whether its inbox, and so its reference, was made before it had one: by its own `__init__`, or a factory."""

    # -- to override ---------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        """Handle a message that is not one of duramen's own; what it returns is the reply."""
        raise InvalidMessage(f"{type(self).__name__} does not understand {type(message).__name__}")

    def initial(self) -> Any:
        """The state that `apply` starts from: plain data. A new object at each call."""
        return None

    def apply(self, state: Any, event: Any) -> Any:
        """The state after one of the agent's own events (an instance of the registered class). Pure; plain data."""
        return state

    def on_child_failed(self, path: str, error: str) -> Any:
        """Called, as a handler, when a sub-agent that escalates was stopped; `error` is the exception's type.

        It may send `Restart` to the child, or raise, whereupon this agent's own supervision decides.
        """

    # -- for handlers ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The agent path, as text."""
        return self._joined().path

    @property
    def session_id(self) -> str | None:
        return self._joined().state.session_id

    @property
    def seq(self) -> int:
        """Position in the log, with what this handler has emitted so far."""
        return self._joined().state.seq

    @property
    def state(self) -> Any:
        """What `apply` made of the agent's own events so far. Do not change it; emit an event."""
        return self._joined().custom

    def emit(self, event: object) -> None:
        """Let one of the agent's own events happen: an instance of a class declared with `@event_type`.

        Raises UnknownEventType, ValueRefused, TooLarge, AgentPaused; the handler may catch them and go on.
        """
        turn, runtime = self._handling(), self._joined()
        require_running(runtime.state, runtime.path)
        registry = runtime.services.registry
        name, version, data = registry.dump(event)
        check_value(data, runtime.services.limits, name)
        folded = self.apply(copy_tree(runtime.custom), event)  # first: an event that it refuses must not happen
        if registry.load(name, version, turn.codec.copy(data)) != event:
            raise InvalidMessage(f"event type {name!r} does not come back equal from its own fields; use plain data")
        turn.emit(NewEvent(name, data, version))
        runtime.custom = folded

    def set(self, path: str, value: Any) -> None:
        """As `AgentHandle.set`, within this handler's batch."""
        apply_operation(self._handling(), Set(path, value))

    def delete(self, path: str) -> None:
        """As `AgentHandle.delete`, within this handler's batch."""
        apply_operation(self._handling(), Delete(path))

    def append(self, path: str, value: Any) -> None:
        """As `AgentHandle.append`, within this handler's batch."""
        apply_operation(self._handling(), Append(path, value))

    def merge(self, path: str, patch: Any) -> None:
        """As `AgentHandle.merge`, within this handler's batch."""
        apply_operation(self._handling(), Merge(path, patch))

    def record(self, kind: str, data: Any = None, *, level: Granularity = Granularity.ACTIVITY) -> None:
        """As `AgentHandle.record`, within this handler's batch."""
        apply_operation(self._handling(), Record(kind, data, level))

    def get(self, path: str = "", default: Any = REQUIRED) -> Any:
        """The value at a property path, as a copy, with what this handler has changed so far. Raises PathNotFound."""
        try:
            return copy_tree(lookup(self._joined().state.memory, segments_of(path)))
        except PathNotFound:
            if default is REQUIRED:
                raise
            return default

    def after_commit(self, effect: Callable[[], object]) -> None:
        """Call `effect` in a worker thread once this handler's batch is in the log; never if it raises, or at replay.

        A crash between commit and effect loses the effect: it is called at most once.
        """
        turn = self._handling()
        turn.after += (bind_cause(effect),)

    def schedule_once(self, seconds: float, message: object) -> Timer:
        """Tell this agent `message` once, `seconds` from now. The timer is gone with the session or the activation.

        Timers live in memory: a crash, a take-over by another process or `terminate` ends them; an agent that has
        one is not passivated.
        """
        return self._joined().timers.add(seconds, message, repeat=False)

    def schedule_every(self, seconds: float, message: object) -> Timer:
        """Tell this agent `message` every `seconds`, until the timer is cancelled; see `schedule_once`."""
        return self._joined().timers.add(seconds, message, repeat=True)

    # -- for the runtime -----------------------------------------------------------------------------------------------

    def join(self, runtime: ActiveAgent) -> None:
        """Take up work; called once."""
        self._runtime = runtime
        if self._looked_at_early:
            for made in ("actor_inbox", "_actor_ref"):
                vars(self).pop(made, None)

    def begin(self, turn: Turn) -> None:
        self._turn = turn

    def end(self) -> None:
        self._turn = None

    def handle(self, message: object) -> Any:
        if isinstance(message, ChildFailed):
            return self.on_child_failed(message.path, message.error)
        return self._handle_receive(message)  # Pykka's: it knows proxies, and calls `on_receive` for the rest

    def custom_version(self) -> str:
        return f"{type(self).__name__}/{self.state_version}"

    def custom_fold(self, registry: EventRegistry) -> CustomFold | None:
        """How the agent's own events fold; None for a class that has none."""
        if type(self).apply is Agent.apply:
            return None

        def apply(state: Any, raw: RawEvent) -> Any:
            if not registry.has_type(raw[0]):
                raise UnknownEventType(
                    f"event type {raw[0]!r} is not registered here; import the module that declares it",
                    actual=raw[0],
                )
            return self.apply(state, registry.load(raw[0], raw[1], raw[4]))

        return CustomFold(self.custom_version(), self.initial, apply)

    def _joined(self) -> ActiveAgent:
        if self._runtime is None:
            raise InvalidMessage("this agent is not running; agents are started by system.spawn(...)")
        return self._runtime

    def _handling(self) -> Turn:
        if self._turn is None:
            raise InvalidMessage("only while on_receive runs; send a message to the agent instead")
        self._turn.look_at_the_clock()
        return self._turn

    # -- what every Pykka actor has, made for those that anybody looks at: it is 1.5 kB each --------------------------

    actor_urn = _lazily(lambda _: uuid4().urn)
    actor_stopped = _lazily(lambda _: Event())
    actor_inbox = _lazily(lambda agent: agent.make_inbox())
    _actor_ref = _lazily(pykka.ActorRef)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Make an agent that does not run yet; a subclass may have an `__init__` of its own."""

    def make_inbox(self) -> Inbox:
        """What Pykka's references put messages into."""
        if self._runtime is None:
            self._looked_at_early = True
            return Inbox.unjoined()
        return self._runtime.inbox()

    # -- Pykka's three, for implementors of actor types ----------------------------------------------------------------

    @classmethod
    def start(cls, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Not for agents: raises InvalidMessage. Agents are started by `system.spawn`."""
        raise InvalidMessage(f"register {cls.__name__} under an agent type and start it with system.spawn(...)")

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox.unjoined()

    @staticmethod
    def _create_future() -> Envelope:
        return Envelope()

    def _start_actor_loop(self) -> NoReturn:
        # There is no loop of an actor's own: the dispatcher runs whoever has messages. And Pykka's registry, a list
        # that is searched from the start when an actor leaves, is never entered.
        raise InvalidMessage("agents are run by their system's dispatcher")
