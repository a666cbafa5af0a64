"""Changes that wait to be delivered to one subscription, bounded, and its cursor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, evolve

from duramen.events.feed import EventBatch
from duramen.events.model import START, Mark, copy_event

from .change import Change

Key = tuple[str, str, bool]
"""Of this only the newest change is wanted: an agent and a property path, or an agent and a type of events (False)."""


@define(eq=False)
class Item:
    """A change, and how the reader's mark after its event is found."""

    partition: int
    change: Change
    place: Mark | EventBatch
    """That mark itself, or the page that the event was read in: few marks are ever asked for."""
    index: int = 0
    """Of the event in the page."""
    newest_of: int = 0
    """Of how many keys this is the newest change."""
    is_shared: bool = False
    """Whether other subscriptions are given the same event."""

    @property
    def mark(self) -> Mark:
        """The reader's mark after the event."""
        place = self.place
        return place if isinstance(place, Mark) else place.mark(self.index)

    def hand_out(self) -> Change:
        """The change, with an event of this subscription's own: what its user does to that, no other sees."""
        if self.is_shared:
            shared, self.is_shared = self.change, False
            # Without `evolve`, which takes three times as long.
            self.change = Change(shared.agent, shared.seq, copy_event(shared.event), shared.paths, shared.values)
        return self.change


class ChangeBuffer:
    """Keeps the order of arrival. Not thread-safe: its subscription's lock guards it.

    With `latest_only`, a change is dropped as soon as newer ones have come for all its paths. Items that were popped
    count until they are confirmed.
    """

    def __init__(self, capacity: int, *, latest_only: bool = False) -> None:
        self.capacity = capacity
        self._latest_only = latest_only
        self._waiting: OrderedDict[int, Item] = OrderedDict()
        self._by_key: dict[Key, list[Item]] = {}
        """With `latest_only`, the items that wait by their keys, the newest last."""
        self._popped = 0
        self._counts: dict[int, int] = {}
        self._delivered: dict[int, Mark | Item] = {}

    def __len__(self) -> int:
        return len(self._waiting) + self._popped

    @property
    def waiting(self) -> int:
        """How many have not been popped."""
        return len(self._waiting)

    def add(self, since: Mark, items: Sequence[Item]) -> None:
        """Put changes of one partition at the end, at least one; `since` is the mark before their events."""
        partition = items[0].partition
        count = self._counts.get(partition, 0)
        if count == 0:
            self._delivered[partition] = since
        self._counts[partition] = count + len(items)
        for item in items:
            if self._latest_only:
                self._supersede(item)
            self._waiting[id(item)] = item

    def pop(self, most: int | None = None) -> list[Item]:
        """The oldest items, all of them or at most so many. Each is to be confirmed after its delivery."""
        if most is None or most >= len(self._waiting):
            items = list(self._waiting.values())
            self.clear()
        else:
            items = [self._waiting.popitem(last=False)[1] for _ in range(most)]
            for item in items:
                self._forget(item)
        self._popped += len(items)
        return items

    def confirm(self, item: Item) -> None:
        """Note that an item was delivered. To be called in the order of popping."""
        self._popped -= 1
        self._counts[item.partition] -= 1
        # An item refers to a whole page, so it is kept only while others of the page wait.
        self._delivered[item.partition] = item if self._counts[item.partition] else item.mark

    def clear(self) -> None:
        """Drop the items that wait; those that were popped stay popped."""
        self._waiting.clear()
        self._by_key.clear()

    def delivered(self, partition: int) -> tuple[Mark, bool]:
        """The mark after the delivered items of a partition, and whether these are all that were ever added."""
        last = self._delivered.get(partition, START)
        return last if isinstance(last, Mark) else last.mark, not self._counts.get(partition)

    def _supersede(self, item: Item) -> None:
        for key in _keys(item.change):
            same = self._by_key.setdefault(key, [])
            same.append(item)
            item.newest_of += 1
            if len(same) > 1:
                older = same[-2]
                older.newest_of -= 1
                if older.newest_of == 0:
                    self._drop(older)

    def _drop(self, item: Item) -> None:
        """Drop an item, and leave the old values of its paths to the next items that have these."""
        del self._waiting[id(item)]
        self._counts[item.partition] -= 1
        for key in _keys(item.change):
            same = self._by_key[key]
            at = same.index(item)
            del same[at]
            if item.change.values:
                heir, path = same[at], key[1]
                values = dict(heir.change.values or {})
                values[path] = (item.change.values[path][0], values[path][1])
                heir.change = evolve(heir.change, values=values)

    def _forget(self, item: Item) -> None:
        for key in _keys(item.change) if self._latest_only else ():
            same = self._by_key[key]
            same.remove(item)
            if not same:
                del self._by_key[key]


def _keys(change: Change) -> list[Key]:
    if change.paths:
        return [(change.agent, path, True) for path in change.paths]
    return [(change.agent, change.event.type, False)]
