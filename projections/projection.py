"""What a projection is, and the fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from duramen.events import Event, Fenced, InvalidMessage

__all__ = ["Attachable", "KeyedProjection", "KeyedView", "Projection", "Reactor", "Sink", "fold", "has_erase"]

S = TypeVar("S")
V = TypeVar("V")


class Attachable(ABC, Generic[V]):
    """A `Projection`, a `KeyedProjection` or a `Sink`; V is what `runner.state` shows of it."""

    version: ClassVar[int] = 1
    """Increase it when stored views no longer fit the code; views of an older version are rebuilt."""

    types: ClassVar[frozenset[str] | None] = None
    """The types of events that it handles; others are not handed to it once it is attached. None: all types."""


class Projection(Attachable[S]):
    """A view of events: a state to start from, and what an event makes of it.

    `apply` is pure: the result depends on its two arguments alone, and neither is changed. It sees each event of
    each agent once and in order; events of different agents come in any order. It must not act on the world:
    events are applied again at every replay.
    """

    @abstractmethod
    def initial(self) -> S:
        """The state before any event. A new object at each call."""

    @abstractmethod
    def apply(self, state: S, event: Event) -> S:
        """The state after `event`. Returns `state` itself when the event does not concern this view."""

    def erase(self, state: S, agent: str) -> S:
        """The state without what it has of an agent that was erased. Pure, as `apply`, and may be called twice.

        Override it where that can be told from the state: a view without it is rebuilt from what is left.
        """
        raise _undefined(self, "erase")

    def dump(self, state: S) -> Any:
        """The state as plain data, to be stored. Override it for a state that is not plain data."""
        return state

    def load(self, data: Any) -> S:
        """The state from the result of `dump`, which belongs to the state from now on."""
        return cast("S", data)


def has_erase(attached: Projection[Any] | KeyedProjection[Any] | Sink) -> bool:
    """Whether an `erase` of its own corrects the view, or the tables, for agents that were erased."""
    bases: tuple[Any, ...] = (Projection, KeyedProjection, Sink)
    own: Any = type(attached)
    return own.erase not in [base.erase for base in bases]


def _undefined(attached: object, method: str) -> InvalidMessage:
    return InvalidMessage(f"{type(attached).__name__} defines no {method}()")


_START: Final[Any] = object()


def fold(projection: Projection[S], events: Iterable[Event], state: S = _START) -> S:
    """The state after all `events`, from `state` or from the start."""
    current = projection.initial() if state is _START else state
    for event in events:
        current = projection.apply(current, event)
    return current


class Sink(Attachable["Sink"]):
    """Writes events to a database, and its cursor in the same transactions.

    Because both are in one transaction, no event is ever written twice or left out, whatever dies when. The methods are
    called by one thread, never at the same time. If one raises and `cursor` does too, the database counts as
    unreachable, and the methods are called again later. Otherwise the consumer finds the event that cannot be written,
    and is parked there. Attached with a new `version`, it is `reset`.
    """

    @abstractmethod
    def cursor(self, name: str) -> bytes | None:
        """The cursor that was written last under this name; None if there is none."""

    @abstractmethod
    def write(self, name: str, events: Sequence[Event], *, after: bytes | None, cursor: bytes) -> None:
        """In one transaction: what the events do to the tables, and `cursor` in the place of `after`.

        `after` is the cursor that these events continue. Where another one is stored, another process has written
        meanwhile: leave everything as it is, and raise `self.fenced(name)`. `events` may be empty.
        """

    def reset(self, name: str) -> None:
        """In one transaction: empty the tables and forget the cursor. For `rebuild`, and a new version."""
        raise InvalidMessage(
            f"{type(self).__name__} cannot be emptied: define reset(), or attach another under another name"
        )

    def erase(self, name: str, agents: Sequence[str], *, after: bytes | None) -> None:
        """In one transaction: remove what the tables have of agents that were erased. It may be called twice.

        `after` is the cursor of this consumer: where another one is stored, leave everything, and raise
        `self.fenced(name)`. A sink without it keeps what it has of them.
        """
        raise _undefined(self, "erase")

    @staticmethod
    def fenced(name: str) -> Fenced:
        """The error to raise in `write` when another cursor than `after` is stored."""
        return Fenced(f"another process writes the tables of consumer {name}; nothing of this one was written")


class Reactor(Attachable["Reactor"]):
    """Acts on events. It is handed each event at least once, in the order of its agent, and never again at a rebuild.

    The methods are called by one thread.
    """

    def begin(self) -> None:
        """Called before the first event, each time that a host has claimed the name. By default it does nothing.

        An exception has it tried again after `pause_after`, or parks the consumer.
        """

    @abstractmethod
    def react(self, event: Event) -> None:
        """Act on an event. An exception has it tried again, or parks the consumer there."""

    @abstractmethod
    def pause_after(self, times: int, error: Exception) -> float | None:
        """Seconds until an event, or `begin`, is tried again that has failed so many times; None: it is not."""


E = TypeVar("E")


class KeyedView(Mapping[str, E]):
    """A read-only mapping of the entries of a view that goes on changing.

    A lookup gives the present entry. An iteration goes over the keys from when it began, without those that have gone
    since. `copy()` gives all entries as they are at one moment.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: dict[str, E]) -> None:
        self._entries = entries

    def __getitem__(self, key: str) -> E:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        # list() of a dict is one step of the interpreter: no other thread changes it meanwhile.
        return (key for key in list(self._entries) if key in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __repr__(self) -> str:
        return f"<KeyedView of {len(self._entries)} entries>"

    def copy(self) -> dict[str, E]:
        """A dict of all entries."""
        return self._entries.copy()


class KeyedProjection(Attachable[KeyedView[E]], Generic[E]):
    """A fold of many entries: `key` says which entry an event belongs to, `apply` how it changes.

    It scales to millions of entries: attached, only the entries that have changed are written. Both methods are pure,
    and neither argument is changed. Events with the same key may come from different agents; those of one agent come
    in order.
    """

    @abstractmethod
    def key(self, event: Event) -> str | None:
        """The key of the entry that the event changes; None if it changes none."""

    @abstractmethod
    def apply(self, entry: E | None, event: Event) -> E | None:
        """The entry after `event`. None stands for no entry: before the first event, and to remove it."""

    def erase(self, entries: KeyedView[E], agent: str) -> Iterable[str]:
        """The keys of the entries to drop, with all they have, for an agent that was erased. It may be called twice.

        Override it where they can be named: a view without it is rebuilt from what is left.
        """
        raise _undefined(self, "erase")

    def dump(self, entry: E) -> Any:
        """The entry as plain data, to be stored. Override it for entries that are not plain data."""
        return entry

    def load(self, data: Any) -> E:
        """The entry from the result of `dump`, which belongs to the entry from now on."""
        return cast("E", data)
