"""Which agents one subscription is told of when they are erased, and which of them have been since."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from duramen.events import Event, Granularity
from duramen.events.model import Mark, Wildcard, join_text
from duramen.events.model import vocabulary as v

from ..notifications import EventFilter
from .buffer import Item
from .change import Change

_MOST_SEEN: Final = 4_096


class ErasureWatch:
    """The agents that a subscription's pattern names, and the few thousand it was given changes of last.

    Of each it knows the feed position from which on an erasure concerns what the subscription has seen, or would have
    seen: an earlier one was of another agent of this path. Not thread-safe: its subscription's lock guards it.
    """

    def __init__(self, event_filter: EventFilter) -> None:
        self.is_wanted = Granularity.LIFECYCLE in event_filter.levels and (
            event_filter.types is None or v.ERASED in event_filter.types
        )
        """Whether the subscription takes events of this level and type at all."""
        self._named = frozenset(named_agents(event_filter)) if self.is_wanted else frozenset[str]()
        self.seen: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """By agent: its partition, and that position; the one that was changed last comes last. Changed only here."""

    def expect(self, agent: str, partition: int, position: int) -> None:
        """Tell of an agent that the pattern names, if it is erased at this position or later."""
        self.seen[agent] = partition, position

    def note(self, items: Iterable[Item]) -> None:
        """Note the agents of changes that the subscription is given."""
        for item in items:
            self.note_one(item)

    def note_one(self, item: Item) -> None:
        """As `note`, for one change. Called for each event."""
        seen, agent = self.seen, item.change.agent
        if agent in seen:
            seen.move_to_end(agent)
        elif self.is_wanted:
            seen[agent] = item.partition, place_of(item.mark)
            if len(seen) > _MOST_SEEN:
                self._forget_quietest()

    def agents(self, partition: int) -> list[str]:
        """The agents of a partition."""
        return [agent for agent, (number, _) in self.seen.items() if number == partition]

    def take(self, erased: Mapping[str, int]) -> set[str]:
        """Those of these agents that the subscription has not been told of; it is from now on."""
        found = {agent for agent, position in erased.items() if agent in self.seen and self.seen[agent][1] <= position}
        for agent in found:
            self.seen[agent] = self.seen[agent][0], erased[agent] + 1
        return found

    def _forget_quietest(self) -> None:
        # The agents that the pattern names are kept. They go to the end, so that they are not met at each call.
        for _ in range(len(self._named) + 1):
            agent = next(iter(self.seen))
            if agent not in self._named:
                del self.seen[agent]
                return
            self.seen.move_to_end(agent)


def named_agents(event_filter: EventFilter) -> list[str]:
    """The agents that a pattern can name: each of its beginnings that has no wildcard and is long enough."""
    segments = event_filter.pattern.segments
    plain = next((at for at, step in enumerate(segments) if isinstance(step, Wildcard)), len(segments))
    return [join_text(segments[:count]) for count in range(2, plain + 1)]


def place_of(mark: Mark) -> int:
    """The feed position after the entry of the mark's event."""
    return mark.position + (mark.offset > 0)


def erased_change(agent: str) -> Change:
    """The change that tells of an erasure: its event is of no log."""
    level = Granularity.LIFECYCLE
    event = Event(agent, 0, datetime.now(UTC), v.ERASED, 1, {}, None, None, None, None, level, None, b"")
    return Change(agent, 0, event, erased=True)
