"""A feed whose list somebody else has changed: its readers are told, of that partition alone, and for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contracts.authors import Author
from contracts.feeds import agents_of, all_facts, body, places_of, reader_of
from contracts.places import Place
from duramen.events.errors import CorruptEvent
from duramen.events.log.event_log import EventLog
from duramen.events.model.cursor import Mark

DAMAGE: dict[str, Callable[[list[Any]], object]] = {
    "deleted": lambda feed: feed.clear(),
    "popped": lambda feed: feed.pop(),
    "trimmed from the left": lambda feed: feed.pop(0),
    "all but the last removed": lambda feed: feed.__delitem__(slice(None, -1)),
    "an entry added": lambda feed: feed.append(feed[0]),
    "an entry inserted": lambda feed: feed.insert(1, feed[0]),
}
damages = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)


def written(log: EventLog) -> Author:
    """An agent with five appends in partition 0, another with one in partition 1."""
    [author], [other] = agents_of(log, 1), agents_of(log, 1, partition=1)
    for number in range(5):
        author.write(body(number))
    other.write(body(0))
    return author


@damages
@pytest.mark.parametrize("position", [0, 2, 5])
def test_a_reader_is_told_wherever_it_stands(
    place: Place, damage: Callable[[list[Any]], object], position: int
) -> None:
    log = place.open(partitions=2)
    author = written(log)
    reader = reader_of(log)
    mark = reader.mark if position == 0 else reader.read(position)[-1].mark
    reader.release()  # what it has fetched is sound
    place.write_feed(log, 0, damage)
    assert log.positions()[0] > 5, "a reader at the end has a reason to read on"
    for reader in (reader, reader_of(log, mark)):
        with pytest.raises(CorruptEvent, match="partition 0"):
            reader.read(10)
    assert log.positions()[1] == 1
    assert len(log.feed_page(1, 0, 10).entries) == 1
    page = log.read(author.agent, 1, 10)
    assert page is not None, "the agents themselves are sound"
    assert len(page.items) == 5


@damages
def test_appends_go_on_and_do_not_hide_it(place: Place, damage: Callable[[list[Any]], object]) -> None:
    log = place.open(partitions=2)
    author = written(log)
    place.write_feed(log, 0, damage)
    with place.notices(log, 0) as heard:
        for number in range(10):
            author.write(body(number))
            with pytest.raises(CorruptEvent):
                log.feed_page(0, 0, 10)
        assert [notice.position for notice in heard()] == list(range(6, 16)), "positions never repeat"
    assert log.positions()[0] > 15


@damages
def test_a_damaged_feed_is_not_trimmed(place: Place, damage: Callable[[list[Any]], object]) -> None:
    log = place.open(partitions=2)
    written(log)
    place.write_feed(log, 0, damage)
    for position in (1, 3, 5):
        with pytest.raises(CorruptEvent):
            log.trim_feed(0, position)
    with pytest.raises(CorruptEvent):
        log.feed_page(0, 0, 10)
    assert log.trim_feed(1, 1) == 1


def test_a_feed_that_is_restored_is_read_on(place: Place) -> None:
    log = place.open(partitions=2)
    author = written(log)
    reader = reader_of(log)
    reader.read(3)
    reader.release()
    removed: list[Any] = []
    place.write_feed(log, 0, lambda feed: removed.append(feed.pop(1)))
    with pytest.raises(CorruptEvent):
        reader.read(10)
    place.write_feed(log, 0, lambda feed: feed.insert(1, removed[0]))
    assert places_of(all_facts(reader)) == [(author.agent, 4), (author.agent, 5)]


def test_a_sound_feed_that_is_trimmed_and_appended_to_is_no_damage(place: Place) -> None:
    log = place.open(partitions=2)
    author = written(log)
    for position in (1, 3, 5):
        assert log.trim_feed(0, position) == position
        assert log.positions() == [5, 1]
    assert log.feed_page(0, 5, 10).entries == []
    author.write(body(5))
    assert log.positions() == [6, 1]
    assert places_of(reader_of(log, Mark(5)).read(10)) == [(author.agent, 6)]
