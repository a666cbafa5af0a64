"""The events that durable consumers have still to read, and whether a log still has them."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from duramen.events import Cursor, Trimmed
from duramen.events.log import ConsumerRecord, EventLog, Span
from duramen.events.model import START, Mark, agent_segments

from ..notifications import EventFilter

_PAGE: Final = 1_000
_LARGE_PAGE: Final = 10_000
_SPANS: Final = 500
_NO_LIMIT: Final = 1 << 40
_FAR: Final = 20_000
"""Entries that are searched for an agent. A consumer that is further behind prevents all trimming meanwhile."""


@frozen(eq=False, repr=False)
class UnreadRange:
    """A consumer, and its mark in the feed of a partition."""

    name: str
    mark: Mark


class UnreadByConsumers:
    """Reads the stored consumers, so those of all processes, at each call. Thread-safe."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def lowest(self, partition: int, agent: str | None = None) -> UnreadRange | None:
        """The consumer that is furthest behind in a partition; with `agent`, of those that read its events.

        None: there is none. A consumer that has not begun there counts as at the start.
        """
        log = self._log
        behind = [
            UnreadRange(record.name, record.cursor.marks.get(partition, START))
            for record in log.consumer_store().records()
            if record.cursor.log == log.identity and self._reads(record, partition, agent)
        ]
        return min(behind, key=lambda one: (one.mark.position, one.mark.offset), default=None)

    def first_seq(self, agent: str) -> tuple[str, int] | None:
        """A consumer that has still to read events of an agent, and the first of them; None: all have read all.

        Where finding the right one would take too long it is a lower seq, at worst the first of all.
        """
        partition = self._log.partition_of(agent)
        lowest = self.lowest(partition, agent)
        if lowest is None:
            return None
        position, offset = lowest.mark.position, lowest.mark.offset
        stop = position + _FAR
        while position < stop:
            try:
                page = self._log.feed_page(partition, position, _PAGE)
            except Trimmed as trimmed:  # its consumer raises that itself when it reads there
                position, offset = int(trimmed.actual), 0
                continue
            for entry in page.entries:
                if entry.agent == agent:
                    return lowest.name, entry.first_seq + offset
                offset = 0
            position += len(page.entries)
            if position >= page.end:
                return None
        return lowest.name, 1

    def _reads(self, record: ConsumerRecord, partition: int, agent: str | None) -> bool:
        event_filter = EventFilter.from_text(record.scope)
        if agent is not None:
            return event_filter.pattern.matches(agent_segments(agent))
        return partition in event_filter.partitions(self._log)


def check_rebuildable(log: EventLog, name: str, event_filter: EventFilter, after: Cursor) -> None:
    """Raise Trimmed if events that a view would begin with are gone. Reads feeds and no events; raises Unavailable."""
    for partition in event_filter.partitions(log):
        try:
            _check_partition(log, partition, event_filter, after.marks.get(partition, START))
        except Trimmed as trimmed:
            raise Trimmed(
                f"consumer {name} cannot be rebuilt: events that its view was made of were trimmed. Its view stays, "
                "and goes on; one under another name may begin after=system.cursor()",
                agent=trimmed.agent,
                seq=trimmed.seq,
                expected=trimmed.expected,
                actual=trimmed.actual,
            ) from None


def _check_partition(log: EventLog, partition: int, event_filter: EventFilter, mark: Mark) -> None:
    matches = event_filter.agent_matcher()
    bits = sum(1 << level for level in event_filter.levels)
    known: set[str] = set()
    position, done = mark.position, mark.offset
    while True:
        page = log.feed_page(partition, position, _LARGE_PAGE)
        firsts: dict[str, int] = {}
        for agent, first, _, levels in page.rows:
            if levels & bits and agent not in known:
                known.add(agent)
                if matches is None or matches(agent):
                    firsts[agent] = first + done
            done = 0
        _check_agents(log, partition, [Span(agent, first, 0) for agent, first in firsts.items()])
        position += len(page.rows)
        if not page.rows or position >= page.end:
            return


def _check_agents(log: EventLog, partition: int, spans: list[Span]) -> None:
    for at in range(0, len(spans), _SPANS):
        part = spans[at : at + _SPANS]
        for span, found in zip(part, log.gather(partition, part, _NO_LIMIT), strict=True):
            if found.base >= span.from_seq:
                raise Trimmed(
                    f"events up to {found.base} of {span.agent} were trimmed",
                    agent=span.agent,
                    seq=span.from_seq,
                    expected=span.from_seq,
                    actual=found.base + 1,
                )
