"""What a projection is, and the fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Generic, TypeVar

from duramen.events import Event

__all__ = ["Projection", "fold"]

S = TypeVar("S")


class Projection(ABC, Generic[S]):
    """A view of events: a state to start from, and what an event makes of it.

    `apply` is pure: the result depends on its two arguments alone, and neither is changed. It sees each event of
    each agent once and in order; events of different agents come in any order. It must not act on the world:
    events are applied again at every replay.
    """

    version: ClassVar[int] = 1
    """Raise it when stored states of older code no longer fit; they are then built anew."""

    @abstractmethod
    def initial(self) -> S:
        """The state before any event. A new object at each call."""

    @abstractmethod
    def apply(self, state: S, event: Event) -> S:
        """The state after `event`. Returns `state` itself when the event does not concern this view."""


_START: Final[Any] = object()


def fold(projection: Projection[S], events: Iterable[Event], state: S = _START) -> S:
    """The state after all `events`, from `state` or from the start."""
    current = projection.initial() if state is _START else state
    for event in events:
        current = projection.apply(current, event)
    return current
