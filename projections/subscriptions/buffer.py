"""What waits to be delivered to one subscription, bounded, and where that leaves the subscription's cursor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, evolve

from duramen.events.feed import EventBatch
from duramen.events.model import START, Mark

from .change import Change

__all__ = ["ChangeBuffer", "Item"]

Key = tuple[str, str, bool]
"""What only the newest is wanted of: an agent and a property path, or an agent and a type of events (False)."""


@define(eq=False)
class Item:
    """A change, and where the reader's place behind its event is found."""

    partition: int
    change: Change
    place: Mark | EventBatch
    """That place itself, or the page that the event was read in: few places are ever asked for."""
    index: int = 0
    """Of the event in the page."""
    newest_of: int = 0
    """Of how many keys this is the newest change."""

    @property
    def mark(self) -> Mark:
        """The reader's place behind the event."""
        place = self.place
        return place if isinstance(place, Mark) else place.mark(self.index)


class ChangeBuffer:
    """In the order of arrival. Not thread-safe: its subscription's lock guards it.

    With `latest_only`, a change goes as soon as newer ones have come for all its paths. What was taken counts until
    it is done with.
    """

    def __init__(self, most: int, *, latest_only: bool = False) -> None:
        self.most = most
        self._latest_only = latest_only
        self._waiting: OrderedDict[int, Item] = OrderedDict()
        self._newest: dict[Key, Item] = {}
        self._taken = 0
        self._counts: dict[int, int] = {}
        self._behind: dict[int, Mark | Item] = {}

    def __len__(self) -> int:
        return len(self._waiting) + self._taken

    @property
    def waiting(self) -> int:
        """How many have not been taken."""
        return len(self._waiting)

    def add(self, since: Mark, items: Sequence[Item]) -> None:
        """Put changes of one partition at the end, at least one; `since` is the place before their events."""
        partition = items[0].partition
        count = self._counts.get(partition, 0)
        if count == 0:
            self._behind[partition] = since
        self._counts[partition] = count + len(items)
        for item in items:
            if self._latest_only:
                self._supersede(item)
            self._waiting[id(item)] = item

    def take(self, most: int | None = None) -> list[Item]:
        """The oldest, all of them or at most so many. Each is to be `done` one day."""
        if most is None or most >= len(self._waiting):
            items = list(self._waiting.values())
            self._waiting.clear()
            self._newest.clear()
        else:
            items = [self._waiting.popitem(last=False)[1] for _ in range(most)]
            for item in items:
                self._forget(item)
        self._taken += len(items)
        return items

    def done(self, item: Item) -> None:
        """The change has been delivered. To be called in the order of taking."""
        self._taken -= 1
        self._counts[item.partition] -= 1
        # An item holds on to a whole page: not for longer than others of it wait.
        self._behind[item.partition] = item if self._counts[item.partition] else item.mark

    def clear(self) -> None:
        """Drop what waits; what was taken stays taken."""
        self._waiting.clear()
        self._newest.clear()

    def place(self, partition: int) -> tuple[Mark, bool]:
        """Behind what is done with of a partition, and whether that is all that was ever added."""
        behind = self._behind.get(partition, START)
        return behind if isinstance(behind, Mark) else behind.mark, not self._counts.get(partition)

    def _supersede(self, item: Item) -> None:
        values = dict(item.change.values or {})
        for key in _keys(item.change):
            older = self._newest.get(key)
            self._newest[key] = item
            item.newest_of += 1
            if older is None:
                continue
            if older.change.values and key[1] in values:
                values[key[1]] = (older.change.values[key[1]][0], values[key[1]][1])
            older.newest_of -= 1
            if older.newest_of == 0:
                del self._waiting[id(older)]
                self._counts[older.partition] -= 1
        if item.change.values is not None:
            item.change = evolve(item.change, values=values)

    def _forget(self, item: Item) -> None:
        for key in _keys(item.change) if self._latest_only else ():
            if self._newest.get(key) is item:
                del self._newest[key]


def _keys(change: Change) -> list[Key]:
    if change.paths:
        return [(change.agent, path, True) for path in change.paths]
    return [(change.agent, change.event.type, False)]
