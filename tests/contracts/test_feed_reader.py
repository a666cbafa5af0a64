"""A reader of a partition gets what was committed there, in that order, or is told why it cannot."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.authors import Author, linked
from contracts.feeds import agents_of, all_facts, body, places_of, reader_of
from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST
from duramen.events.errors import CorruptEvent, DataLoss, Diverged, Trimmed
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Base, Span
from duramen.events.model.cursor import Mark
from duramen.events.model.event import Granularity


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open(partitions=1)


def written(log: EventLog, rounds: int = 3, agents: int = 3) -> list[tuple[str, int]]:
    """Some agents append in turns, one event and then two and then three; what they wrote, in order."""
    authors = agents_of(log, agents)
    found: list[tuple[str, int]] = []
    for count in range(1, rounds + 1):
        for author in authors:
            found += [(author.agent, author.seq + 1 + number) for number in range(count)]
            author.write(*[body(number) for number in range(count)])
    return found


def test_a_reader_gets_all_events_in_the_order_they_were_committed(log: EventLog) -> None:
    expected = written(log)
    reader = reader_of(log)
    assert places_of(all_facts(reader)) == expected
    assert reader.lag == 0
    assert reader.read(10) == []


def test_a_fact_carries_the_event_as_it_is_stored(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    author.write(body(1), body(2))
    facts = all_facts(reader_of(log))
    stored = place.items(log, author.agent)
    assert [fact.digest for fact in facts] == [item[:DIGEST_SIZE] for item in stored]
    assert [fact.raw[4]["number"] for fact in facts] == [1, 2]
    assert [fact.raw[0] for fact in facts] == ["counted", "counted"]


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_reading_goes_on_exactly_behind_any_fact(log: EventLog, most: int) -> None:
    expected = written(log)
    facts = all_facts(reader_of(log), most)
    for number, fact in enumerate(facts, 1):
        assert places_of(all_facts(reader_of(log, fact.mark), most)) == expected[number:]


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_reading_goes_on_exactly_from_the_readers_own_mark(log: EventLog, most: int) -> None:
    expected = written(log)
    found: list[tuple[str, int]] = []
    mark = reader_of(log).mark
    while True:
        reader = reader_of(log, mark)
        facts = reader.read(most)
        if not facts:
            break
        found += places_of(facts)
        mark = reader.mark
    assert found == expected


def test_what_is_appended_later_is_found_by_the_same_reader(log: EventLog) -> None:
    authors = agents_of(log, 2)
    reader = reader_of(log)
    for number in range(20):
        assert reader.read(100) == []
        author = authors[number % 2]
        author.write(body(number))
        assert [fact.raw[4]["number"] for fact in reader.read(100)] == [number]


def test_only_wanted_agents_are_returned_and_the_mark_passes_the_others(log: EventLog) -> None:
    expected = written(log, rounds=4)
    chosen = agents_of(log, 2)[1].agent
    reader = reader_of(log, wants=lambda agent: agent == chosen)
    assert places_of(all_facts(reader, 2)) == [place for place in expected if place[0] == chosen]
    assert reader.mark.position == log.positions()[0]
    # What nobody wants is passed over, but not forgotten: the mark names the last event of all.
    assert (reader.mark.agent, reader.mark.seq) == expected[-1]
    nothing = reader_of(log, wants=lambda agent: False)
    assert nothing.read(5) == []
    assert nothing.mark == reader.mark


def test_only_events_up_to_the_level_are_returned(log: EventLog) -> None:
    author = agents_of(log, 1)[0]
    levels = [1, 4, 2, 3, 4, 4, 1]
    for number, level in enumerate(levels):
        author.write(body(number, level=level), level=level)
    author.write(*[body(7 + n, level=level) for n, level in enumerate(levels)], levels=bytes(levels))
    for level in Granularity:
        reader = reader_of(log, level=level)
        found = [fact.raw[4]["number"] for fact in all_facts(reader)]
        assert found == [number for number, one in enumerate([*levels, *levels]) if one <= level]
        assert reader.mark.position == len(levels) + 1


def test_far_gaps_between_wanted_events_of_an_agent_are_bridged(log: EventLog) -> None:
    author = agents_of(log, 1)[0]
    for number in range(60):
        level = 1 if number % 25 == 0 else 4
        author.write(body(number, level=level), level=level)
    facts = all_facts(reader_of(log, level=1))
    assert [fact.seq for fact in facts] == [1, 26, 51]


def test_large_events_come_whole_and_in_order(log: EventLog) -> None:
    first, second = agents_of(log, 2)
    expected: list[tuple[str, int]] = []
    for number in range(40):
        author = (first, second)[number % 2]
        author.write(body(number, size=200_000))
        expected.append((author.agent, author.seq))
    author.write(*[body(number, size=100) for number in range(50)])
    expected += [(author.agent, seq) for seq in range(author.seq - 49, author.seq + 1)]
    assert places_of(all_facts(reader_of(log))) == expected


@pytest.mark.slow
def test_one_append_of_very_many_events_is_read_in_parts(place: Place) -> None:
    log = place.open(partitions=1)
    author = agents_of(log, 1)[0]
    author.write(*[body(number) for number in range(40_000)])
    author.write(body(40_000))
    reader = reader_of(log)
    facts = reader.read(10)
    assert (reader.mark.position, reader.mark.offset) == (0, 10)
    facts += all_facts(reader, 7_000)
    assert [fact.seq for fact in facts] == list(range(1, 40_002))


# -- what is wrong is told ------------------------------------------------------------------------------------------


def test_a_shorter_feed_is_data_loss(log: EventLog) -> None:
    written(log)
    mark = reader_of(log).mark
    for fact in all_facts(reader_of(log)):
        mark = fact.mark
    with pytest.raises(DataLoss) as caught:
        reader_of(log, evolve(mark, position=mark.position + 1)).read(1)
    assert (caught.value.expected, caught.value.actual) == (mark.position + 1, mark.position)


def test_another_event_at_the_mark_is_a_divergence(log: EventLog) -> None:
    written(log)
    facts = all_facts(reader_of(log))
    for fact in (facts[1], facts[-1]):
        with pytest.raises(Diverged) as caught:
            reader_of(log, evolve(fact.mark, digest=b"another history.")).read(1)
        assert (caught.value.agent, caught.value.seq) == (fact.agent, fact.seq)


def test_an_event_of_the_mark_that_is_gone_is_data_loss(log: EventLog) -> None:
    written(log)
    mark = all_facts(reader_of(log))[-1].mark
    with pytest.raises(DataLoss):
        reader_of(log, evolve(mark, seq=mark.seq + 1)).read(1)
    with pytest.raises(DataLoss):
        reader_of(log, evolve(mark, agent="acme/nobody")).read(1)


def test_a_mark_inside_another_entry_is_a_divergence(log: EventLog) -> None:
    first, second = agents_of(log, 2)
    first.write(body(1), body(2), body(3))
    second.write(body(4))
    mark = reader_of(log).mark
    facts = reader_of(log).read(2)
    mark = facts[-1].mark
    assert (mark.position, mark.offset) == (0, 2)
    for wrong in (evolve(mark, offset=1), evolve(mark, position=1), evolve(mark, offset=9)):
        with pytest.raises(Diverged):
            reader_of(log, wrong).read(1)
    assert reader_of(log, mark).read(1)[0].seq == 3


def test_a_reader_notices_that_the_past_was_replaced_while_it_ran(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    author.write(body(1), body(2))
    reader = reader_of(log)
    assert len(reader.read(10)) == 2
    other = linked(NO_DIGEST, [body(7), body(8), body(9)])
    author.write(body(3))
    place.keep(log, author.agent, other)
    with pytest.raises(Diverged) as caught:
        reader.read(10)
    assert caught.value.seq == 2


def test_a_reader_of_one_agent_notices_that_the_others_past_was_replaced(log: EventLog, place: Place) -> None:
    mine, other = agents_of(log, 2)
    mine.write(body(1))
    other.write(body(2))
    reader = reader_of(log, wants=lambda agent: agent == mine.agent)
    assert len(reader.read(10)) == 1
    place.keep(log, other.agent, linked(NO_DIGEST, [body(3)]))
    mine.write(body(4))
    with pytest.raises(Diverged) as caught:
        reader.read(10)
    assert caught.value.agent == other.agent


@pytest.mark.parametrize("bad", [1, 3, 5])
def test_events_before_a_damaged_one_are_returned_first(log: EventLog, place: Place, bad: int) -> None:
    author = agents_of(log, 1)[0]
    for number in range(5):
        author.write(body(number))
    items = place.items(log, author.agent)
    whole = list(items)
    items[bad - 1] = items[bad - 1][:-1] + b"!"
    place.keep(log, author.agent, items)
    reader = reader_of(log)
    facts = reader.read(10) if bad > 1 else []
    assert [fact.seq for fact in facts] == list(range(1, bad))
    for _ in range(2):
        with pytest.raises(CorruptEvent) as caught:
            reader.read(10)
        assert (caught.value.agent, caught.value.seq) == (author.agent, bad)
    place.keep(log, author.agent, whole)  # repaired from a backup: the same reader goes on
    assert [fact.seq for fact in all_facts(reader)] == list(range(bad, 6))


def test_a_damaged_event_that_nobody_wants_is_passed_over(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    for number, level in enumerate([1, 4, 4, 1, 1]):
        author.write(body(number, level=level), level=level)
    items = place.items(log, author.agent)
    items[1] = items[1][:-1] + b"!"
    place.keep(log, author.agent, items)
    assert [fact.seq for fact in all_facts(reader_of(log, level=1))] == [1, 4, 5]
    everything = reader_of(log)
    assert [fact.seq for fact in everything.read(10)] == [1]
    with pytest.raises(CorruptEvent):
        everything.read(10)


def test_an_event_that_does_not_decode_is_named(log: EventLog) -> None:
    author = agents_of(log, 1)[0]
    author.write(body(1), b"\xc1 no msgpack", body(3))
    reader = reader_of(log)
    assert [fact.seq for fact in reader.read(10)] == [1]
    with pytest.raises(CorruptEvent) as caught:
        reader.read(10)
    assert (caught.value.agent, caught.value.seq) == (author.agent, 2)
    assert reader.mark.offset == 1


def test_an_event_that_the_feed_names_and_the_log_lacks_is_told(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    author.write(body(1), body(2))
    place.keep(log, author.agent, place.items(log, author.agent)[:1])
    reader = reader_of(log)
    assert len(reader.read(10)) == 1
    with pytest.raises(CorruptEvent) as caught:
        reader.read(10)
    assert caught.value.seq == 2


def test_an_agent_that_the_feed_names_and_the_log_does_not_know_is_told(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    author.write(body(1))
    place.write_head(log, author.agent, None)
    with pytest.raises(CorruptEvent) as caught:
        reader_of(log).read(10)
    assert caught.value.agent == author.agent


# -- trimming -------------------------------------------------------------------------------------------------------


def trim(log: EventLog, place: Place, author: Author, seq: int) -> None:
    """Trim an agent's log up to `seq`, of a log that was not trimmed before."""
    digest = place.items(log, author.agent)[seq - 1][:DIGEST_SIZE]
    log.trim(author.agent, Base(seq, digest), b"its state there")


def test_a_position_that_was_trimmed_from_the_feed_is_refused(log: EventLog) -> None:
    expected = written(log, rounds=1, agents=5)
    marks = [fact.mark for fact in all_facts(reader_of(log))]
    log.feed_page(0, 2, 10).entries
    assert log.trim_feed(0, 3) == 3
    for position in (0, 2):
        with pytest.raises(Trimmed) as caught:
            log.feed_page(0, position, 10).entries
        assert caught.value.actual == 3
    with pytest.raises(Trimmed):
        reader_of(log).read(1)
    assert places_of(all_facts(reader_of(log, marks[2]))) == expected[3:]
    assert [entry.agent for entry in log.feed_page(0, 3, 10).entries] == [agent for agent, _ in expected[3:]]
    assert log.positions() == [5]


def test_a_feed_that_is_trimmed_while_it_is_read_skips_nothing(place: Place) -> None:
    log, other = place.open(partitions=1), place.open(partitions=1)
    expected = written(log, rounds=1, agents=6)
    reader = reader_of(log)
    assert places_of(reader.read(2)) == expected[:2]
    fresh = reader_of(log, reader.mark)
    other.trim_feed(0, 2)  # `log` has not seen that yet
    assert places_of(all_facts(fresh)) == expected[2:]
    other.trim_feed(0, 4)
    with pytest.raises(Trimmed):
        log.feed_page(0, 2, 10).entries
    assert len(log.feed_page(0, 4, 10).entries) == 2


def test_events_that_were_trimmed_before_they_were_read_are_told(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    for number in range(6):
        author.write(body(number))
    early = reader_of(log).read(1)[0].mark
    later = reader_of(log).read(4)[-1].mark
    trim(log, place, author, 4)
    with pytest.raises(Trimmed) as caught:
        reader_of(log, early).read(10)
    assert (caught.value.agent, caught.value.seq, caught.value.actual) == (author.agent, 2, 5)
    # Whoever has read up to the base goes on, and the digest that is kept there vouches for what comes next.
    assert [fact.seq for fact in all_facts(reader_of(log, later))] == [5, 6]
    with pytest.raises(Diverged):
        reader_of(log, evolve(later, digest=b"another history.")).read(1)


def test_an_event_right_behind_the_base_is_checked_against_what_was_kept_of_it(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    for number in range(4):
        author.write(body(number))
    trim(log, place, author, 2)
    mark = Mark(2)
    assert [fact.seq for fact in all_facts(reader_of(log, mark))] == [3, 4]
    place.keep(log, author.agent, linked(b"another history.", [body(2), body(3)]))
    with pytest.raises(CorruptEvent) as caught:
        reader_of(log, mark).read(10)
    assert caught.value.seq == 3


# -- the log's side -------------------------------------------------------------------------------------------------


def test_positions_are_the_ends_of_all_feeds(place: Place) -> None:
    log = place.open(partitions=5)
    assert log.positions() == [0] * 5
    for partition, count in enumerate([3, 0, 1, 2, 7]):
        for author in agents_of(log, count, partition):
            author.write(body(1))
    assert log.positions() == [3, 0, 1, 2, 7]
    log.trim_feed(4, 5)
    assert log.positions() == [3, 0, 1, 2, 7]
    assert log.feed_page(4, 7, 10).end == 7


def test_gathering_stops_behind_the_event_that_reaches_the_bytes(log: EventLog) -> None:
    first, second = agents_of(log, 2)
    first.write(*[body(number, size=1_000) for number in range(10)])
    second.write(*[body(number, size=1_000) for number in range(10)])
    spans = [Span(first.agent, 3, 4), Span(second.agent, 1, 100), Span(first.agent, 1, 1)]
    everything = log.gather(0, spans, 10**9)
    assert [(found.first_seq, len(found.items), found.head) for found in everything] == [
        (3, 4, 10),
        (1, 10, 10),
        (1, 1, 10),
    ]
    counts = [[len(found.items) for found in log.gather(0, spans, most)] for most in (1, 3_000, 4_500, 5_500)]
    assert counts == [[1], [3], [4, 1], [4, 2]]


def test_gathering_tells_apart_what_is_trimmed_and_who_is_unknown(log: EventLog, place: Place) -> None:
    author = agents_of(log, 1)[0]
    author.write(*[body(number) for number in range(5)])
    stored = place.items(log, author.agent)
    trim(log, place, author, 2)
    spans = [Span(author.agent, 1, 3), Span("acme/nobody", 1, 1), Span(author.agent, 9, 3), Span(author.agent, 1, 2)]
    found = log.gather(0, spans, 10**6)
    assert [(one.base, one.head, one.first_seq) for one in found] == [(2, 5, 3), (-1, -1, 1), (2, 5, 9), (2, 5, 3)]
    assert [one.items for one in found] == [stored[2:3], [], [], []]
    digests = log.gather(0, [Span(author.agent, seq, 0) for seq in range(1, 7)], 10**6)
    assert [one.items for one in digests] == [[], *[[item[:DIGEST_SIZE]] for item in stored[1:]], []]


# -- the law --------------------------------------------------------------------------------------------------------

appends = st.tuples(st.integers(0, 3), st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4))
steps = st.lists(st.one_of(appends, st.integers(1, 5)), min_size=1, max_size=25)


def _obeys(place: Place, script: list[tuple[int, list[int]] | int], level: int, wanted: set[int]) -> None:
    """Appends and readings in any order; each reading by a new reader or the one before; all is seen once, in order."""
    log = place.open(partitions=1)
    authors = agents_of(log, 4)
    chosen = {authors[number].agent for number in wanted}
    reader = reader_of(log, level=level, wants=chosen.__contains__)
    expected: list[tuple[str, int]] = []
    found: list[tuple[str, int]] = []
    for number, step in enumerate(script):
        if isinstance(step, int):
            if number % 3 == 0:
                reader = reader_of(log, reader.mark, level=level, wants=chosen.__contains__)
            found += places_of(reader.read(step))
            assert found == expected[: len(found)]
            continue
        which, levels = step
        author = authors[which]
        first = author.seq + 1
        author.write(*[body(0, level=one) for one in levels], levels=bytes(levels))
        expected += [(author.agent, first + n) for n, one in enumerate(levels) if which in wanted and one <= level]
    assert found + places_of(all_facts(reader, 3)) == expected
    assert reader.mark.position == log.positions()[0]


@given(steps, st.sampled_from([1, 2, 4]), st.sets(st.integers(0, 3)))
def test_every_reader_in_memory_sees_its_own_exactly_once_and_in_order(
    script: list[tuple[int, list[int]] | int], level: int, wanted: set[int]
) -> None:
    _obeys(MemoryPlace(), script, level, wanted)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.sampled_from([1, 2, 4]), st.sets(st.integers(0, 3)))
def test_every_reader_of_a_server_sees_its_own_exactly_once_and_in_order(
    valkey_url: str, script: list[tuple[int, list[int]] | int], level: int, wanted: set[int]
) -> None:
    place = ServerPlace(valkey_url)
    try:
        _obeys(place, script, level, wanted)
    finally:
        place.close()
