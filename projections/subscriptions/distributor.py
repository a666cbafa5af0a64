"""Handing events to the subscriptions that they concern."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import define, field

from duramen.events import DuramenError
from duramen.events.feed import FeedEvent, FeedReader, LastDigests, UnconfirmedEvents
from duramen.events.log import EventLog
from duramen.events.model import Mark

from .buffer import Item
from .change import Change, ChangeBuilder
from .intake import Intake, filter_of
from .matcher import SubscriptionMatcher


@define(eq=False)
class FollowedPartition:
    """How far the hub is in a partition, and which part of that came from notices alone."""

    reader: FeedReader
    mark: Mark
    """After everything that was handed out."""
    known: LastDigests
    unconfirmed: UnconfirmedEvents = field(factory=UnconfirmedEvents)
    receivers: set[Intake] = field(factory=set[Intake])
    """Intakes that were given an unconfirmed event."""
    erasures: int = -1
    """As of the last look for agents that were erased; -1: somebody joined since."""


class Distributor:
    """Knows the intakes that the hub reads for. Not thread-safe.

    An intake that is behind in all its partitions reads them by itself, so it is left out until it joins again.
    """

    def __init__(self, builder: ChangeBuilder) -> None:
        self._builder = builder
        self._fed: set[Intake] = set()
        self._matcher: SubscriptionMatcher[Intake] = SubscriptionMatcher(filter_of)
        self.wants = self._matcher.wants
        self._watching: set[Intake] = set()
        """Intakes with values: they read by themselves when the hub says that there is more."""
        self._woken: set[Intake] = set()
        self._moved: set[int] = set()

    def add(self, intake: Intake) -> bool:
        """Hand events to an intake; whether more has to be read for it."""
        if intake.delivery.values:
            self._watching.add(intake)
        if intake.delivery.values or intake in self._fed:
            return False
        self._fed.add(intake)
        self._matcher.add(intake)
        return True

    def remove(self, intake: Intake) -> None:
        """Hand nothing more to an intake, if it was one of them."""
        self._watching.discard(intake)
        if intake in self._fed:
            self._fed.remove(intake)
            self._matcher.remove(intake)

    def remove_idle(self) -> None:
        """Remove the intakes that are behind in all their partitions."""
        for intake in [one for one in self._fed if not any(map(one.is_live, one.partitions))]:
            self.remove(intake)

    def is_followed(self, partition: int) -> bool:
        """Whether an intake relies on the hub in a partition."""
        return any(one.is_following(partition) for one in (*self._fed, *self._watching))

    def followed(self, among: Collection[int]) -> frozenset[int]:
        """The partitions in which an intake relies on the hub."""
        left = set(among)
        for intake in (*self._fed, *self._watching):
            left.difference_update([one for one in left & intake.partitions if intake.is_following(one)])
            if not left:
                break
        return frozenset(among) - left

    def hand_out(
        self, number: int, part: FollowedPartition, events: Sequence[FeedEvent], *, receivers: set[Intake] | None = None
    ) -> None:
        """Offer the events that were read of a partition, and move its mark. Raises CorruptEvent.

        Intakes that were given one are added to `receivers`.
        """
        before: FeedEvent | None = None
        after = part.reader.mark
        try:
            for event in events:
                found = self._matcher.match(event.agent, event.seq, event.raw)
                if found:
                    self._offer(number, part.mark if before is None else before.mark, event, found, receivers)
                before = event
        except DuramenError:
            after = part.mark if before is None else before.mark
            raise
        finally:
            if part.mark != after:
                part.mark = after
                self._moved.add(number)

    def tell_erased(self, partition: int, log: EventLog) -> dict[str, int]:
        """Tell intakes of the agents that were erased since; returns these, by their `erased_until`.

        Intakes with values are told that there is something, and look by themselves. Raises what asking the log raises.
        """
        fed = [one for one in self._fed if partition in one.partitions and one.is_live(partition)]
        agents = {agent for intake in fed for agent in intake.watched(partition)}
        erased = log.erased_agents(partition, list(agents))
        told: set[str] = set()
        for intake in fed if erased else ():
            if found := intake.tell_erased(partition, erased):
                told |= found
                self._woken.add(intake)
        self._moved.add(partition)
        return {agent: erased[agent] for agent in told}

    def wake(self) -> None:
        """Wake the intakes that have received something, once for a burst: a woken thread slows this one down."""
        while self._woken:
            self._woken.pop().wake()
        for intake in self._watching if self._moved else ():
            for partition in intake.partitions & self._moved:
                intake.read_more(partition)
        self._moved.clear()

    def _offer(
        self,
        partition: int,
        since: Mark,
        event: FeedEvent,
        found: dict[Intake, list[str]],
        receivers: set[Intake] | None,
    ) -> None:
        changes: dict[tuple[str, ...], Change] = {}
        mark, is_shared = event.mark, len(found) > 1
        for intake, paths in found.items():
            if not intake.is_live(partition):
                continue
            if receivers is not None:
                receivers.add(intake)
            key = tuple(paths)
            try:
                change = changes.get(key)
                if change is None:
                    change = changes[key] = self._builder.plain(event, key)
            except DuramenError:
                intake.fall_behind(partition, since)  # it reads the event in the log, and finds the same, or better
                continue
            if intake.offer(partition, since, Item(partition, change, mark, 0, 0, is_shared)):
                self._woken.add(intake)
