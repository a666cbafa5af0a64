"""The actor to subclass."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar, cast

import pykka
import pykka.messages
from attrs import fields, frozen

from duramen.events import (
    EventRegistry,
    InvalidMessage,
    NewEvent,
    TooLarge,
    UnknownAgentType,
    UnknownEventType,
)
from duramen.events.codec import RawEvent
from duramen.events.model import check_value, contents_in
from duramen.projections.recovery import CustomFold
from duramen.projections.state import copy_tree

from ..commands import ChildFailed, Message, Strategy, Supervision, require_running
from ..handlers import Turn, storing
from ..work import DurableAwaits
from .lifecycle import LifecycleCalls
from .memory import MemoryCalls
from .scheduling import SchedulingCalls
from .subclasses import check_methods, check_settings, reserved_names

if TYPE_CHECKING:
    # Type checkers need the default, which `typing` has from Python 3.13 on. They bring typing_extensions with them.
    from typing_extensions import TypeVar as TypeVarWithDefault

    S = TypeVarWithDefault("S", default=Any)
else:
    S = TypeVar("S")

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


class Agent(MemoryCalls, LifecycleCalls, SchedulingCalls, DurableAwaits, Generic[S]):
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
        check_settings(cls)
        check_methods(cls)

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

    # -- for the runtime -----------------------------------------------------------------------------------------------

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


_RESERVED: Final[Mapping[str, str]] = reserved_names(Agent)
_CALLS: Final = frozenset(name for name in _RESERVED if callable(inspect.getattr_static(Agent, name)))
