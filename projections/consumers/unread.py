"""What durable consumers still have to read: of an agent's log, and of a feed."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from duramen.events import InvalidPath, PathPattern, Trimmed
from duramen.events.log import ConsumerRecord, EventLog
from duramen.events.model import START, Mark

__all__ = ["UnreadByConsumers", "UnreadRange"]

_PAGE: Final = 1_000
_FAR: Final = 20_000
"""Entries that are looked through for an agent. Who is farther behind holds the whole log meanwhile."""


@frozen
class UnreadRange:
    """A consumer and its place in the feed of a partition."""

    name: str
    mark: Mark


class UnreadByConsumers:
    """Looks at the consumers that are stored each time it is asked, and so at those of all processes. Thread-safe."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def lowest(self, partition: int, agent: str | None = None) -> UnreadRange | None:
        """The consumer that is farthest behind in a partition; of those that take an agent's events, if one is named.

        None: there is none. A consumer that has not begun there stands at the start.
        """
        log = self._log
        behind = [
            UnreadRange(record.name, record.cursor.marks.get(partition, START))
            for record in log.consumer_store().records()
            if record.cursor.log == log.identity and self._takes(record, partition, agent)
        ]
        return min(behind, key=lambda one: (one.mark.position, one.mark.offset), default=None)

    def first_seq(self, agent: str) -> tuple[str, int] | None:
        """A consumer that has still to read events of an agent, and the first of them; None: all have read all.

        A lower seq, at worst the first of all, where finding the right one would take too long.
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
            except Trimmed as trimmed:  # its consumer is told so when it comes to it
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

    def _takes(self, record: ConsumerRecord, partition: int, agent: str | None) -> bool:
        pattern = _pattern_of(record.scope)
        if pattern is None:
            return True
        if agent is not None:
            return pattern.matches(agent.split("/"))
        root = pattern.segments[:2]
        one_root = len(root) == 2 and "*" not in root and "**" not in root
        return not one_root or self._log.partition_of("/".join(root)) == partition


def _pattern_of(scope: str) -> PathPattern | None:
    """The agents that a scope names before its levels and types; None where it names none: then it takes all."""
    parts = scope.rsplit(" ", 2)
    if len(parts) < 3:
        return None
    try:
        return PathPattern.parse(parts[0])
    except InvalidPath:
        return None
