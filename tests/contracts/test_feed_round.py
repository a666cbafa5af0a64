"""Readers of many partitions that fetch together read what each would have read by itself, in fewer exchanges."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.authors import Author
from contracts.feeds import CODEC, body, places_of
from contracts.places import MemoryPlace, Place
from duramen.events.errors import Trimmed, Unavailable
from duramen.events.feed.batched_fetch import fetch_together
from duramen.events.feed.event_batch import FeedEvent
from duramen.events.feed.reader import FeedReader
from duramen.events.log.event_log import EventLog
from duramen.events.memory.log import MemoryLog

PARTITIONS = 4


class Counting:
    """A log that counts what it is asked for."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.asked: Counter[str] = Counter()
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log, name)
        if name not in ("feed_page", "feed_pages", "gather", "gather_all"):
            return found

        def ask(*arguments: Any) -> Any:
            self.asked[name] += 1
            if self.fails:
                raise Unavailable("it is away")
            return found(*arguments)

        return ask


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open(partitions=PARTITIONS)


def authors_of(log: EventLog) -> list[Author]:
    return [Author(log, f"acme/agent-{number}") for number in range(12)]


def readers_of(log: Any, **options: Any) -> list[FeedReader]:
    return [FeedReader(log, CODEC, partition, **options) for partition in range(PARTITIONS)]


def taken(reader: FeedReader) -> list[FeedEvent]:
    found: list[FeedEvent] = []
    while facts := reader.read(100):
        found += facts
    return found


def test_two_exchanges_do_for_all_partitions(log: EventLog) -> None:
    for author in authors_of(log):
        author.write(body(1), body(2))
    counting = Counting(log)
    readers = readers_of(counting)
    fetch_together(counting, readers)  # type: ignore[arg-type]
    found = [reader.read(100) for reader in readers]
    assert counting.asked == {"feed_pages": 1, "gather_all": 1}
    assert sum(map(len, found)) == 24
    alone = Counting(log)
    assert [places_of(reader.read(100)) for reader in readers_of(alone)] == [places_of(facts) for facts in found]
    assert alone.asked == {"feed_page": 4, "gather": 4}, "control: each by itself asks twice"


def test_the_end_of_a_feed_is_found_in_the_same_exchange(log: EventLog) -> None:
    authors_of(log)[0].write(body(1))
    counting = Counting(log)
    readers = readers_of(counting)
    for reader in readers:
        taken(reader)
    counting.asked.clear()
    fetch_together(counting, readers)  # type: ignore[arg-type]
    assert [reader.read(100) for reader in readers] == [[]] * PARTITIONS
    assert counting.asked["feed_page"] == 0


def test_what_was_foreseen_is_not_believed_the_next_time(log: EventLog) -> None:
    author = authors_of(log)[0]
    author.write(body(1))
    readers = readers_of(log)
    mine = readers[log.partition_of(author.agent)]
    for reader in readers:
        taken(reader)
    fetch_together(log, readers)  # finds all feeds at their ends, and nobody reads
    author.write(body(2))
    fetch_together(log, readers)
    assert [fact.seq for fact in taken(mine)] == [2]
    fetch_together(log, readers)
    author.write(body(3))
    fetch_together(log, [mine])  # alone it asks nothing, and must not believe what was found before either
    assert [fact.seq for fact in taken(mine)] == [3]
    fetch_together(log, readers)
    author.write(body(4))
    mine.release()
    assert [fact.seq for fact in taken(mine)] == [4]


def test_a_partition_that_cannot_be_read_hinders_no_other(log: EventLog) -> None:
    authors = authors_of(log)
    for author in authors:
        author.write(body(1), body(2))
    lost = log.partition_of(authors[0].agent)
    log.trim_feed(lost, 1)
    readers = readers_of(log)
    fetch_together(log, readers)
    for reader in readers[:lost] + readers[lost + 1 :]:
        assert {fact.seq for fact in taken(reader)} <= {1, 2}
    with pytest.raises(Trimmed):
        readers[lost].read(100)


def test_a_server_that_is_away_is_told_of_once() -> None:
    counting = Counting(MemoryPlace().open(partitions=PARTITIONS))
    counting.fails = True
    with pytest.raises(Unavailable):
        fetch_together(counting, readers_of(counting))  # type: ignore[arg-type]
    assert sum(counting.asked.values()) == 1


@pytest.mark.slow
def test_who_is_far_behind_is_left_to_itself() -> None:
    log = MemoryLog(partitions=PARTITIONS)
    authors = authors_of(log)
    for number in range(300):
        for author in authors:
            author.write(body(number))
    readers = readers_of(log)
    for reader in readers:
        reader.read(10)
        reader.release()
    assert [reader.next_request() for reader in readers] == [None] * PARTITIONS


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 11), st.integers(1, 4)),
        st.tuples(st.just("round"), st.sets(st.integers(0, PARTITIONS - 1)), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, PARTITIONS - 1), st.integers(1, 9)),
        st.tuples(st.just("rest"), st.integers(0, PARTITIONS - 1), st.just(0)),
    ),
    max_size=40,
)


@pytest.mark.slow
@settings(max_examples=150)
@given(steps=STEPS, odd=st.booleans())
def test_whatever_is_fetched_and_read_when_each_event_comes_once_and_in_order(
    steps: list[tuple[str, Any, int]], odd: bool
) -> None:
    log = MemoryLog(partitions=PARTITIONS)
    authors = authors_of(log)
    wanted = {author.agent for number, author in enumerate(authors) if not odd or number % 2}
    readers = readers_of(log, wants=wanted.__contains__)
    found: list[list[FeedEvent]] = [[] for _ in readers]
    for kind, what, count in steps:
        if kind == "write":
            authors[what].write(*[body(number) for number in range(count)])
        elif kind == "round":
            fetch_together(log, [readers[number] for number in sorted(what)])
        elif kind == "read":
            found[what] += readers[what].read(count)
        else:
            readers[what].release()
    for number, reader in enumerate(readers):
        for _ in range(2):  # what was fetched before the last writing, and then all
            found[number] += taken(reader)
    expected = [taken(reader) for reader in readers_of(log, wants=wanted.__contains__)]
    assert [places_of(facts) for facts in found] == [places_of(facts) for facts in expected]
