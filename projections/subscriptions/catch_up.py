"""Reading one partition for one subscription alone, a page at a time."""

from __future__ import annotations

from attrs import define

from duramen.events import DuramenError
from duramen.events.codec import Codec, build_valid_events
from duramen.events.feed import EventBatch, FeedReader, is_erased
from duramen.events.model import Mark

from ..notifications import EventFilter
from .buffer import Item
from .change import Change, ChangeBuilder, Source
from .matcher import SubscriptionMatcher


@define(eq=False)
class PageResult:
    """The changes of a page, and the reader's mark after them."""

    items: list[Item]
    mark: Mark
    more: bool = True
    """Whether the feed had more when it was last asked."""
    erasures: int = 0
    """How often entries of the feed had been made nobody's when this was read."""
    error: DuramenError | None = None
    """What is wrong with the event after the mark, or with a later one if that one is not wanted."""


class CatchUpReader:
    """Used by one thread at a time."""

    def __init__(self, source: Source, event_filter: EventFilter, partition: int, mark: Mark, *, values: bool) -> None:
        self._matcher: SubscriptionMatcher[EventFilter] = SubscriptionMatcher(_itself)
        self._matcher.add(event_filter)
        self._filter = event_filter
        self._log = source.log
        self._registry = source.registry
        self._builder = ChangeBuilder(source, values=True) if values else None
        self._partition = partition
        level = event_filter.level if self._builder is None else max(event_filter.level, self._builder.level)
        codec, wants = Codec(source.limits), self._matcher.wants
        self.reader = FeedReader(source.log, codec, partition, mark, level=level, wants=wants)

    def page(self, most: int) -> PageResult:
        """The next page. Raises what reading raises; an error of an event comes after the changes before it."""
        before = self.reader.mark
        batch = self.reader.read_batch(most)
        if batch is None:
            return PageResult([], self.reader.mark, more=False, erasures=self.reader.erasures)
        paths, error = self._paths(batch)
        builder = self._builder
        items, wrong = self._plain(batch, paths) if builder is None else self._with_values(batch, paths, builder)
        error = wrong or error
        erasures = self.reader.erasures
        if error is None:
            return PageResult(items, self.reader.mark, more=self.reader.lag > 0, erasures=erasures)
        return PageResult(items, items[-1].mark if items else before, erasures=erasures, error=error)

    def _paths(self, batch: EventBatch) -> tuple[list[list[str] | None], DuramenError | None]:
        """The matching paths of each event, None where it is not wanted; up to the first that fails, and its error."""
        found: list[list[str] | None] = []
        match, event_filter = self._matcher.match, self._filter
        try:
            for agent, seq, raw in zip(batch.agents, batch.seqs, batch.raws, strict=True):
                found.append(match(agent, seq, raw).get(event_filter))
        except DuramenError as error:
            return found, error
        return found, None

    def _plain(self, batch: EventBatch, paths: list[list[str] | None]) -> tuple[list[Item], DuramenError | None]:
        wanted = [one is not None for one in paths]
        chosen = batch.select(wanted + [False] * (len(batch) - len(wanted)))
        events, error = build_valid_events(chosen.agents, chosen.seqs, chosen.raws, chosen.digests, self._registry)
        each = zip(events, filter(_is_there, paths), strict=False)
        changes = [Change(event.agent, event.seq, event, tuple(names or ())) for event, names in each]
        return [Item(self._partition, change, chosen, index) for index, change in enumerate(changes)], error

    def _with_values(
        self, batch: EventBatch, paths: list[list[str] | None], builder: ChangeBuilder
    ) -> tuple[list[Item], DuramenError | None]:
        items: list[Item] = []
        for index, (found, names) in enumerate(zip(batch.events(), paths, strict=False)):
            try:
                change = builder.with_values(found, names)
            except DuramenError as error:
                if not is_erased(self._log, self._partition, found.mark):
                    return items, error
                continue  # the values before it are gone, and so is the event itself by now
            if change is not None:
                items.append(Item(self._partition, change, batch, index))
        return items, None


def _itself(event_filter: EventFilter) -> EventFilter:
    return event_filter


def _is_there(names: list[str] | None) -> bool:
    return names is not None
