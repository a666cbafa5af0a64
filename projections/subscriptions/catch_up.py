"""What reads one partition for one subscription alone, a page at a time."""

from __future__ import annotations

from attrs import define

from duramen.events import DuramenError
from duramen.events.codec import Codec, build_valid_events
from duramen.events.feed import EventBatch, FeedReader
from duramen.events.model import Mark

from ..notifications import EventFilter
from .buffer import Item
from .change import Change
from .change_builder import ChangeBuilder, Source
from .matcher import SubscriptionMatcher

__all__ = ["CatchUpReader", "PageResult"]


@define(eq=False)
class PageResult:
    """What a page had for the subscription, and where that has come to."""

    items: list[Item]
    mark: Mark
    more: bool = True
    """Whether there was more in the feed when it was last looked at."""
    error: DuramenError | None = None
    """What is wrong with the event behind the mark, or one behind that which is not wanted."""


class CatchUpReader:
    """Used by one thread at a time."""

    def __init__(self, source: Source, interest: EventFilter, partition: int, mark: Mark, *, values: bool) -> None:
        self._audience: SubscriptionMatcher[EventFilter] = SubscriptionMatcher(_itself)
        self._audience.add(interest)
        self._interest = interest
        self._registry = source.registry
        self._teller = ChangeBuilder(source, values=True) if values else None
        self._partition = partition
        level = interest.level if self._teller is None else max(interest.level, self._teller.level)
        codec, wants = Codec(source.limits), self._audience.wants
        self.reader = FeedReader(source.log, codec, partition, mark, level=level, wants=wants)

    def page(self, most: int) -> PageResult:
        """The next page. Raises what reading raises; what is wrong with an event comes behind those before it."""
        before = self.reader.mark
        facts = self.reader.take(most)
        if facts is None:
            return PageResult([], self.reader.mark, more=False)
        paths, error = self._paths(facts)
        items, wrong = self._plain(facts, paths) if self._teller is None else self._valued(facts, paths, self._teller)
        error = wrong or error
        if error is None:
            return PageResult(items, self.reader.mark, more=self.reader.lag > 0)
        return PageResult(items, items[-1].mark if items else before, error=error)

    def _paths(self, facts: EventBatch) -> tuple[list[list[str] | None], DuramenError | None]:
        """By which paths each event concerns the subscription, up to the first that is none, and what that is."""
        found: list[list[str] | None] = []
        of, interest = self._audience.of, self._interest
        try:
            for agent, seq, raw in zip(facts.agents, facts.seqs, facts.raws, strict=True):
                found.append(of(agent, seq, raw).get(interest))
        except DuramenError as error:
            return found, error
        return found, None

    def _plain(self, facts: EventBatch, paths: list[list[str] | None]) -> tuple[list[Item], DuramenError | None]:
        wanted = [one is not None for one in paths]
        chosen = facts.only(wanted + [False] * (len(facts) - len(wanted)))
        events, error = build_valid_events(chosen.agents, chosen.seqs, chosen.raws, chosen.digests, self._registry)
        each = zip(events, filter(_is_there, paths), strict=False)
        changes = [Change(event.agent, event.seq, event, tuple(names or ())) for event, names in each]
        return [Item(self._partition, change, chosen, index) for index, change in enumerate(changes)], error

    def _valued(
        self, facts: EventBatch, paths: list[list[str] | None], teller: ChangeBuilder
    ) -> tuple[list[Item], DuramenError | None]:
        items: list[Item] = []
        try:
            for index, (fact, names) in enumerate(zip(facts.each(), paths, strict=False)):
                change = teller.tell(fact, names)
                if change is not None:
                    items.append(Item(self._partition, change, facts, index))
        except DuramenError as error:
            return items, error
        return items, None


def _itself(interest: EventFilter) -> EventFilter:
    return interest


def _is_there(names: list[str] | None) -> bool:
    return names is not None
