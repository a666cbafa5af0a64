"""A reader that has its next window under way meanwhile gets what one that asks in turn gets, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from contracts.authors import Author
from contracts.feeds import agents_of, body, reader_of
from contracts.places import Place, ServerPlace
from duramen.events.codec.event_codec import DIGEST_SIZE
from duramen.events.errors import CorruptEvent, DuramenError, Trimmed, Unavailable
from duramen.events.feed.reader import FeedReader
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Answer, Base, Span, Status
from duramen.events.model.cursor import Mark
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog

_ROUNDS = 400
_AGENTS = 5
_FIRST = 100
"""Events that are read before something happens: by then the next window is under way."""

PageResult = list[tuple[str, int, int, bytes]]


def filled(log: EventLog, rounds: int = _ROUNDS, *, size: int = 0, agents: int = _AGENTS) -> list[Author]:
    """Agents that append in turns, one event or two, many more than are read at once."""
    authors = agents_of(log, agents)
    for number in range(rounds):
        batch = [
            author.append(*[body(number, size=size)] * (1 + (number + at) % 2)) for at, author in enumerate(authors)
        ]
        answers: Sequence[Answer] = log.commit(0, batch)
        assert {answer.status for answer in answers} == {Status.COMMITTED}
        for author, append, answer in zip(authors, batch, answers, strict=True):
            author.settle(append, answer)
    return authors


def taken(reader: FeedReader, most: int = 100_000, *, ahead: bool, page: int = 50) -> PageResult:
    """Agent, seq, number and digest of what is read, up to the end or about `most` events."""
    found: PageResult = []
    while len(found) < most:
        facts = reader.read_batch(page, ahead=ahead)
        if facts is None:
            break
        numbers = [raw[4]["number"] for raw in facts.raws]
        found += zip(facts.agents, facts.seqs, numbers, facts.digests, strict=True)
        last = facts.mark(len(facts) - 1)
        assert (last.agent, last.seq, last.digest) == (facts.agents[-1], facts.seqs[-1], facts.digests[-1])
        assert reader.mark.position >= last.position
    return found


def events_in_turn(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each later call of `gather` asks for."""
    asked: list[int] = []
    gather = log.gather

    def counted(partition: int, spans: Sequence[Span], most_bytes: int) -> Any:
        asked.append(sum(span.count for span in spans))
        return gather(partition, spans, most_bytes)

    monkeypatch.setattr(log, "gather", counted)
    return asked


@pytest.fixture
def log(server: ServerPlace) -> EventLog:
    return server.open(partitions=1)


@pytest.mark.slow
@pytest.mark.parametrize("page", [1, 7, 200])
def test_what_is_asked_for_ahead_is_what_would_be_read_in_turn(place: Place, page: int) -> None:
    log = place.open(partitions=1)
    filled(log, 150 if page == 1 else _ROUNDS)
    expected = taken(reader_of(log), ahead=False)
    reader = reader_of(log)
    found = taken(reader, ahead=True, page=page)
    reader.release()
    assert found == expected
    assert reader.mark == reader_of_end(log)
    assert reader.lag == 0


def reader_of_end(log: EventLog) -> Mark:
    reader = reader_of(log)
    taken(reader, ahead=False)
    return reader.mark


@pytest.mark.slow
def test_only_what_is_wanted_comes_ahead(place: Place) -> None:
    log = place.open(partitions=1)
    authors = filled(log)
    chosen = {authors[1].agent, authors[3].agent}
    reader = reader_of(log, wants=chosen.__contains__)
    found = taken(reader, ahead=True)
    reader.release()
    assert found == [one for one in taken(reader_of(log), ahead=False) if one[0] in chosen]


@pytest.mark.slow
def test_far_behind_nearly_all_comes_ahead(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(log)
    asked = events_in_turn(log, monkeypatch)
    reader = reader_of(log)
    count = len(taken(reader, ahead=True))
    reader.release()
    assert 0 < sum(asked) <= count // 10
    asked.clear()
    assert len(taken(reader_of(log), ahead=False)) == sum(asked) == count


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 50, _FIRST, 700])
def test_who_rests_and_goes_on_loses_nothing_and_gets_nothing_twice(log: EventLog, first: int) -> None:
    filled(log)
    reader = reader_of(log)
    found: PageResult = []
    for _ in range(3):
        found += taken(reader, first, ahead=True)
        reader.release()
        reader.release()
    found += taken(reader, ahead=False)
    assert found == taken(reader_of(log), ahead=False)


@pytest.mark.slow
def test_who_rests_holds_no_connection(server: ServerPlace) -> None:
    opened = pool_of_url(server.url)
    pool = server.pool_of(opened, 0)
    pool.max_connections = 2
    log = RedisLog(opened, namespace=server.namespace, partitions=1)
    try:
        filled(log)
        for _ in range(5):
            reader = reader_of(log)
            taken(reader, _FIRST, ahead=True)
            reader.release()
        held = [pool.get_connection(), pool.get_connection()]  # neither is missing
        for connection in held:
            pool.release(connection)
    finally:
        log.close()


def kill_connections(server: ServerPlace) -> None:
    server.call_each("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def kill_all(server: ServerPlace, log: EventLog, authors: list[Author]) -> None:
    kill_connections(server)


def append_more(server: ServerPlace, log: EventLog, authors: list[Author]) -> None:
    for number in range(70):
        authors[number % _AGENTS].write(body(number))


def move_base_of_feed(server: ServerPlace, log: EventLog, authors: list[Author]) -> None:
    log.trim_feed(0, 10)


def trim_what_was_read(server: ServerPlace, log: EventLog, authors: list[Author]) -> None:
    for author in authors:
        trim(server, log, author, 3)


def trim(server: ServerPlace, log: EventLog, author: Author, seq: int) -> None:
    digest = server.items(log, author.agent)[seq - 1][:DIGEST_SIZE]
    log.trim(author.agent, Base(seq, digest), b"its state there")


@pytest.mark.slow
@pytest.mark.parametrize("happens", [kill_all, append_more, move_base_of_feed, trim_what_was_read])
def test_nothing_is_lost_and_nothing_comes_twice_whatever_happens_under_way(
    server: ServerPlace, log: EventLog, happens: Callable[[ServerPlace, EventLog, list[Author]], None]
) -> None:
    authors = filled(log)
    before = taken(reader_of(log), ahead=False)
    reader = reader_of(log)
    found = taken(reader, _FIRST, ahead=True)
    happens(server, log, authors)
    found += taken(reader, ahead=True)
    reader.release()
    assert found[: len(before)] == before
    assert len(found) == sum(author.seq for author in authors)
    assert len({(agent, seq) for agent, seq, *_ in found}) == len(found)


@pytest.mark.slow
def test_what_is_trimmed_before_it_is_asked_for_is_told_behind_what_came_before(
    server: ServerPlace, log: EventLog
) -> None:
    author = filled(log)[0]
    reader = reader_of(log)
    found = taken(reader, _FIRST, ahead=True)
    trim(server, log, author, 590)
    with pytest.raises(Trimmed) as caught:
        found += taken(reader, ahead=True)
    reader.release()
    assert (caught.value.agent, caught.value.actual) == (author.agent, 591)
    mark = reader.mark
    with pytest.raises(Trimmed) as again:
        reader_of(log, mark).read(10)
    assert again.value.seq == caught.value.seq


@pytest.mark.slow
@pytest.mark.parametrize("seq", [80, 300, 599])
def test_a_damaged_event_is_told_behind_what_came_before(server: ServerPlace, log: EventLog, seq: int) -> None:
    author = filled(log)[2]
    expected = taken(reader_of(log), ahead=False)
    items = server.items(log, author.agent)
    whole = list(items)
    items[seq - 1] = items[seq - 1][:-1] + b"!"
    server.keep(log, author.agent, items)
    reader = reader_of(log)
    found: PageResult = []
    with pytest.raises(CorruptEvent) as caught:
        while True:
            found += taken(reader, 1, ahead=True)
    assert (caught.value.agent, caught.value.seq) == (author.agent, seq)
    bad = [(agent, number) for agent, number, *_ in expected].index((author.agent, seq))
    assert found == expected[:bad]
    server.keep(log, author.agent, whole)
    found += taken(reader, ahead=True)
    reader.release()
    assert found == expected


@pytest.mark.slow
def test_an_event_that_is_missing_is_told_behind_what_came_before(server: ServerPlace, log: EventLog) -> None:
    author = filled(log)[1]
    expected = taken(reader_of(log), ahead=False)
    server.keep(log, author.agent, server.items(log, author.agent)[:400])
    reader = reader_of(log)
    found: PageResult = []
    with pytest.raises(DuramenError):
        while True:
            found += taken(reader, 1, ahead=True)
    reader.release()
    assert found == expected[: len(found)]
    bad = [(agent, number) for agent, number, *_ in expected].index((author.agent, 401))
    assert len(found) == bad


@pytest.mark.slow
def test_a_damaged_entry_of_the_feed_is_told_behind_what_came_before(server: ServerPlace, log: EventLog) -> None:
    filled(log)
    expected = taken(reader_of(log), ahead=False)
    client: Any = server.client
    client.lset(server.keys.feed(0), 1_500, b"\x94\xa1x\x01\x01")
    reader = reader_of(log)
    found: PageResult = []
    with pytest.raises(CorruptEvent):
        while True:
            found += taken(reader, 1, ahead=True)
    reader.release()
    assert found == expected[: len(found)]
    assert len(found) > _FIRST


def test_large_events_are_asked_for_in_turn_where_their_number_has_no_bounds(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    authors = filled(log, 60, size=4_000)
    authors[0].write(body(60, size=200_000))  # no event of this agent is larger: all may be as large
    asked = events_in_turn(log, monkeypatch)
    reader = reader_of(log)
    found = taken(reader, ahead=True)
    reader.release()
    assert len(found) == sum(author.seq for author in authors)
    assert sum(asked) > authors[0].seq // 2


@pytest.mark.slow
def test_a_server_that_is_gone_is_told_as_in_turn(server: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of_url(server.url)
    log = RedisLog(pool, namespace=server.namespace, partitions=1, retry_seconds=0.0)
    filled(log)
    expected = taken(reader_of(log), ahead=False)
    reader = reader_of(log)
    found = taken(reader, _FIRST, ahead=True)

    def refuse() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(server.pool_of(pool, 0), "get_connection", refuse)
    kill_connections(server)
    with pytest.raises(Unavailable):
        while True:
            found += taken(reader, 1, ahead=True)
    monkeypatch.undo()
    found += taken(reader, ahead=True)
    reader.release()
    assert found == expected
    log.close()
