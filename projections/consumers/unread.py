"""The events that durable consumers have still to read, of an agent's log and of a feed."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from duramen.events import Trimmed
from duramen.events.log import ConsumerRecord, EventLog
from duramen.events.model import START, Mark

from ..notifications import EventFilter

__all__ = ["UnreadByConsumers", "UnreadRange"]

_PAGE: Final = 1_000
_FAR: Final = 20_000
"""Entries that are searched for an agent. A consumer that is further behind prevents all trimming meanwhile."""


@frozen
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
            return event_filter.pattern.matches(agent.split("/"))
        return partition in event_filter.partitions(self._log)
