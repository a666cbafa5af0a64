"""For whom a hub reads: those that can take in what it reads."""

from __future__ import annotations

from collections.abc import Collection

from attrs import define, field

from duramen.events.codec import RawEvent
from duramen.events.feed import FeedReader, LastDigests, UnconfirmedEvents
from duramen.events.model import Mark

from .intake import Intake, interest_of
from .matcher import SubscriptionMatcher

__all__ = ["Members", "PartitionMembers"]


class Members:
    """Used by one thread. Who is behind everywhere reads by itself: what concerns it alone is not read for it, too."""

    def __init__(self) -> None:
        self.watching: set[Intake] = set()
        """Those that want values: they are only told that there is more."""
        self._intakes: set[Intake] = set()
        self._audience: SubscriptionMatcher[Intake] = SubscriptionMatcher(interest_of)

    def add(self, intake: Intake) -> bool:
        """Serve this one; whether there is more to read for it."""
        if intake.values:
            self.watching.add(intake)
        if intake.values or intake in self._intakes:
            return False
        self._intakes.add(intake)
        self._audience.add(intake)
        return True

    def remove(self, intake: Intake) -> None:
        """Serve one less, if it was one of them."""
        self.watching.discard(intake)
        if intake in self._intakes:
            self._intakes.remove(intake)
            self._audience.remove(intake)

    def remove_idle(self) -> None:
        """Read no more for those that are behind everywhere; they come back when they join."""
        for intake in [one for one in self._intakes if not any(map(one.takes, one.partitions))]:
            self.remove(intake)

    def is_followed(self, partition: int) -> bool:
        """Whether anybody gets what is read or heard there."""
        return any(one.follows(partition) for one in self._intakes) or any(
            one.follows(partition) for one in self.watching
        )

    def followed(self, among: Collection[int]) -> frozenset[int]:
        """The partitions in which anybody gets what is read or heard."""
        left = set(among)
        for intake in (*self._intakes, *self.watching):
            left.difference_update([partition for partition in left & intake.partitions if intake.follows(partition)])
            if not left:
                break
        return frozenset(among) - left

    def wants(self, agent: str) -> bool:
        """As `SubscriptionMatcher.wants`."""
        return self._audience.wants(agent)

    def of(self, agent: str, seq: int, raw: RawEvent) -> dict[Intake, list[str]]:
        """As `SubscriptionMatcher.of`."""
        return self._audience.of(agent, seq, raw)


@define(eq=False)
class PartitionMembers:
    """Where the hub is in it, and what of that is only hearsay."""

    reader: FeedReader
    mark: Mark
    """Behind everything that was handed out."""
    known: LastDigests
    heard: UnconfirmedEvents = field(factory=UnconfirmedEvents)
    hearers: set[Intake] = field(factory=set[Intake])
    """Who was given something that is among `heard`."""
