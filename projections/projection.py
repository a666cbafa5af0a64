"""What a projection is, and the fold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Final, TypeVar, cast

from duramen.events import Event

from .attachable import Attachable

__all__ = ["Projection", "fold"]

S = TypeVar("S")


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

    def dump(self, state: S) -> Any:
        """The state as plain data, to be stored. As it stands, it is for states that are plain data."""
        return state

    def load(self, data: Any) -> S:
        """The state from what `dump` gave, which is the state's own from now on."""
        return cast("S", data)


_START: Final[Any] = object()


def fold(projection: Projection[S], events: Iterable[Event], state: S = _START) -> S:
    """The state after all `events`, from `state` or from the start."""
    current = projection.initial() if state is _START else state
    for event in events:
        current = projection.apply(current, event)
    return current
