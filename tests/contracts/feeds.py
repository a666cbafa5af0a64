"""What the tests of readers of many agents have in common."""

from __future__ import annotations

from collections.abc import Callable

from contracts.authors import Author
from duramen.events.codec.event_codec import Codec
from duramen.events.feed.event_batch import FeedEvent
from duramen.events.feed.reader import EVERY_LEVEL, FeedReader
from duramen.events.log.event_log import EventLog
from duramen.events.model.cursor import START, Mark
from duramen.events.model.limits import Limits

__all__ = ["CODEC", "agents_of", "all_facts", "body", "places_of", "reader_of"]

CODEC = Codec(Limits())


def body(number: int, *, level: int = 2, size: int = 0) -> bytes:
    """An event that says its number."""
    return CODEC.pack(
        ["counted", 1, int(level), 0, {"number": number, "fill": "x" * size}, None, None, None, None, None]
    )


def agents_of(log: EventLog, count: int, partition: int = 0) -> list[Author]:
    """Authors of agents that live in this partition."""
    found: list[Author] = []
    number = 0
    while len(found) < count:
        agent = f"acme/agent-{number}"
        if log.partition_of(agent) == partition:
            found.append(Author(log, agent))
        number += 1
    return found


def reader_of(
    log: EventLog, mark: Mark = START, *, level: int = EVERY_LEVEL, wants: Callable[[str], bool] | None = None
) -> FeedReader:
    return FeedReader(log, CODEC, 0, mark, level=level, wants=wants)


def all_facts(reader: FeedReader, most: int = 100) -> list[FeedEvent]:
    """All up to the end of the feed."""
    found: list[FeedEvent] = []
    while facts := reader.read(most):
        assert len(facts) <= most
        assert facts[-1].mark.position <= reader.mark.position
        found += facts
    return found


def places_of(facts: list[FeedEvent]) -> list[tuple[str, int]]:
    return [(fact.agent, fact.seq) for fact in facts]
