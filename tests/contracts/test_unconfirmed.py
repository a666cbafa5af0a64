"""What a reader takes from notices is what it would have read; what it should not have taken is found in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from attrs import evolve

import msgpack
from contracts.authors import Author
from contracts.feeds import agents_of, all_facts, body, places_of, reader_of
from contracts.places import Place, ServerPlace
from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST, chain
from duramen.events.errors import CorruptEvent, DataLoss, Diverged, DuramenError, Unavailable
from duramen.events.feed.event_batch import FeedEvent
from duramen.events.feed.last_digests import LastDigests
from duramen.events.feed.notice_batches import complete_batches, rows_of
from duramen.events.feed.reader import FeedReader
from duramen.events.feed.unconfirmed import UnconfirmedEvents, confirm_with_log
from duramen.events.log.event_log import EventLog
from duramen.events.log.notices import Notice, NoticeStream
from duramen.events.log.records import Append
from duramen.events.memory.log import MemoryLog
from duramen.events.model.event import Granularity
from duramen.events.model.limits import Limits
from duramen.events.redis.notices import notice_of

LONG = 20.0
STATE, ACTIVITY = Granularity.STATE, Granularity.ACTIVITY

Told = Callable[[int], list[Notice]]


@pytest.fixture
def log(place: Place) -> EventLog:
    return place.open(partitions=1, limits=Limits(notice_bytes=2_000))


def settled(stream: NoticeStream) -> None:
    """Follow, and hear that each of the four subscriptions has been confirmed."""
    stream.follow({0}, 4)
    assert stream.receive(LONG) == {0: 0}
    while stream.receive(0.1):
        pass


@pytest.fixture
def told(log: EventLog) -> Iterator[Told]:
    """Returns the notices heard since the last call, once so many have come."""
    stream = log.notices(events=True)
    settled(stream)

    def take(count: int) -> list[Notice]:
        found: list[Notice] = []
        deadline = monotonic() + LONG
        while len(found) < count:
            assert monotonic() < deadline, f"only {len(found)} of {count} notices came"
            stream.receive(1.0)
            found += stream.take_notices()
        assert len(found) == count
        return found

    yield take
    stream.close()


def standing(log: EventLog, *authors: Author, known: LastDigests | None = None) -> FeedReader:
    """A reader that has read everything; each author has written, so that it knows all of them."""
    for number, author in enumerate(authors, 100):
        author.write(body(number))
    reader = FeedReader(log, reader_of(log)._codec, 0, known=known)
    all_facts(reader)
    assert reader.read(1) == []
    return reader


def fields(facts: list[FeedEvent]) -> list[Any]:
    return [(fact.agent, fact.seq, fact.raw, fact.digest, fact.mark) for fact in facts]


def forged(author: Author, first: int, previous: bytes, *bodies: bytes) -> list[Any]:
    """A row of a notice whose chain of digests is right, as nobody can make who has not seen `previous`."""
    items: list[bytes] = []
    for one in bodies:
        previous = chain(previous, one)
        items.append(previous + one)
    return [author.agent, first, items]


def last_digest(log: EventLog, author: Author) -> bytes:
    head = log.head(author.agent)
    assert head is not None
    return head.digest


def test_what_is_heard_is_what_would_have_been_read(log: EventLog, told: Told) -> None:
    one, two = agents_of(log, 2)
    reader, hearsay = standing(log, one, two), UnconfirmedEvents()
    told(2)
    behind = reader_of(log, reader.mark)
    one.write(body(1))
    two.write(body(2), body(3), body(4))
    log.commit(0, [one.append(body(5), body(6)), two.append(body(7))])
    for notice in told(3):
        facts = reader.accept_notices([notice], hearsay)
        assert facts is not None
        count = len(facts)
        read: list[FeedEvent] = []
        while len(read) < count:
            read += behind.read(count - len(read))
        assert fields(facts) == fields(read)
        assert reader.mark == behind.mark
        assert reader.lag == 0
    assert hearsay.count == 4
    assert confirm_with_log(log, {0: hearsay}) == {}
    assert hearsay.count == 0
    assert reader.read(1) == []
    one.after_claim().write(body(8))
    assert [fact.raw[4]["number"] for fact in reader.read(10)] == [8]


def test_agents_that_nobody_wants_are_passed_over_and_checked_all_the_same(log: EventLog, told: Told) -> None:
    one, two = agents_of(log, 2)
    one.write(body(0))
    two.write(body(0))
    reader = reader_of(log, wants=lambda agent: agent == one.agent)
    all_facts(reader)
    told(2)
    two.write(body(1))
    [notice] = told(1)
    lie = evolve(notice, events=[(two.agent, 2, [b"x" * 40])])
    with pytest.raises(CorruptEvent):
        reader.accept_notices([lie], UnconfirmedEvents())
    assert reader.accept_notices([notice], UnconfirmedEvents()) == []
    assert reader.mark.position == 3


@pytest.mark.parametrize(
    "doubt",
    ["unknown agent", "first event", "missed", "past", "levels", "no events", "entries", "unread", "half read", "seq"],
)
def test_what_may_not_be_the_next_is_not_taken_and_found_by_reading(log: EventLog, told: Told, doubt: str) -> None:
    one, two = agents_of(log, 2)
    two.write(body(0))
    reader = standing(log, one, known=LastDigests(1) if doubt == "unknown agent" else None)
    if doubt == "unread":
        reader = reader_of(log, reader.mark)
    told(2)
    match doubt:
        case "unknown agent":
            two.write(body(1))
        case "first event":
            agents_of(log, 3)[2].write(body(1))
        case "missed":
            one.write(body(1))
            told(1)
            one.write(body(2))
        case "levels":
            one.write(body(1), body(2, level=ACTIVITY), levels=bytes([STATE, ACTIVITY]))
        case "no events":
            one.write(body(1, size=3_000))
            one.write(body(2))
        case _:
            one.write(body(1), body(2))
    notice = told(2 if doubt == "levels" else 1)[-1]
    match doubt:
        case "entries":
            notice = evolve(notice, position=notice.position + 1)
        case "seq":
            assert notice.events is not None
            notice = evolve(notice, events=[(one.agent, 1 << 60, notice.events[0][2])])
        case "half read":
            assert len(reader.read(1)) == 1
        case "past":
            all_facts(reader)
    before, hearsay = reader.mark, UnconfirmedEvents()
    expected = places_of(all_facts(reader_of(log, before)))
    assert reader.accept_notices([notice], hearsay) is None
    assert (reader.mark, hearsay.count) == (before, 0)
    assert places_of(all_facts(reader)) == expected


LIES = {
    "another chain": lambda a, _: [a.agent, 2, [b"d" * DIGEST_SIZE + body(666)]],
    "another's events": lambda a, b: forged(a, 2, b, body(666)),
    "no digest": lambda a, _: [a.agent, 2, [b""]],
    "second of two": lambda a, _: [a.agent, 2, [*forged(a, 2, NO_DIGEST, body(1))[2], b"x" * 50]],
}


@pytest.mark.parametrize("lie", LIES)
def test_what_claims_to_be_the_next_and_does_not_continue_is_refused(log: EventLog, lie: str) -> None:
    one, two = agents_of(log, 2)
    reader, hearsay = standing(log, one, two), UnconfirmedEvents()
    before = reader.mark
    row = LIES[lie](one, last_digest(log, two))
    with pytest.raises(CorruptEvent) as caught:
        reader.accept_notices([Notice(0, STATE, 2, 3, [tuple(row)], 2, 1 << STATE)], hearsay)
    assert caught.value.agent == one.agent
    assert len(str(caught.value.actual)) <= 2 * DIGEST_SIZE
    assert (reader.mark, hearsay.count) == (before, 0)
    one.write(body(1))
    assert places_of(all_facts(reader)) == [(one.agent, 2)]


@pytest.mark.parametrize("raw", [[], ["counted"] * 10, 5, {"a": 1}, ["counted", 1, 9, 0, {}, *[None] * 5]])
def test_what_continues_and_is_no_event_is_refused(log: EventLog, raw: Any) -> None:
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    packed: Any = msgpack.packb(raw)
    row = forged(one, 2, last_digest(log, one), packed)
    with pytest.raises(CorruptEvent):
        reader.accept_notices([Notice(0, STATE, 1, 2, [tuple(row)], 1, 1 << STATE)], hearsay)
    assert (reader.mark.position, hearsay.count) == (1, 0)


# -- a forger who reads along, and knows what continues --------------------------------------------------------------


def hear_forged(reader: FeedReader, hearsay: UnconfirmedEvents, before: int, *rows: list[Any]) -> None:
    notice = Notice(0, STATE, before, before + len(rows), [tuple(row) for row in rows], before, 1 << STATE)
    assert reader.accept_notices([notice], hearsay) is not None


def wrong(log: EventLog, hearsay: UnconfirmedEvents) -> DuramenError:
    return confirm_with_log(log, {0: hearsay})[0]


def test_an_event_that_was_made_up_is_not_found_in_the_log(log: EventLog) -> None:
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    hear_forged(reader, hearsay, 1, forged(one, 2, last_digest(log, one), body(666)))
    assert isinstance(wrong(log, hearsay), DataLoss)


@pytest.mark.parametrize("meanwhile", [0, 1])
def test_an_event_that_was_made_up_is_found_to_be_another(log: EventLog, meanwhile: int) -> None:
    one, two = agents_of(log, 2)
    reader, hearsay = standing(log, one, two), UnconfirmedEvents()
    hear_forged(reader, hearsay, 2, forged(one, 2, last_digest(log, one), body(666)))
    (one, two)[meanwhile].write(body(1))
    assert isinstance(wrong(log, hearsay), Diverged)
    with pytest.raises((Diverged, DataLoss)):  # whoever goes on from there is told so as well
        reader_of(log, reader.mark).read(1)


def test_a_true_event_behind_one_that_was_made_up_hides_nothing(log: EventLog) -> None:
    one, two = agents_of(log, 2)
    reader, hearsay = standing(log, one, two), UnconfirmedEvents()
    known = last_digest(log, one)
    true = two.write(body(1))
    one.write(body(2))
    lie = forged(one, 2, known, body(666))
    hear_forged(reader, hearsay, 2, lie, [two.agent, 2, true.items])
    assert isinstance(wrong(log, hearsay), Diverged)


def test_true_events_in_other_entries_than_theirs_are_found(log: EventLog) -> None:
    """One entry told as two, so that the next one of somebody else would be passed over."""
    one, two = agents_of(log, 2)
    reader, hearsay = standing(log, one, two), UnconfirmedEvents()
    both = one.write(body(1), body(2)).items
    two.write(body(3))
    hear_forged(reader, hearsay, 2, [one.agent, 2, both[:1]], [one.agent, 3, both[1:]])
    assert isinstance(wrong(log, hearsay), Diverged)


def test_what_was_heard_before_and_after_a_stretch_that_was_read_is_compared(log: EventLog, told: Told) -> None:
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    told(1)
    for number in range(1, 4):
        one.write(body(number))
        [notice] = told(1)
        if number == 2:
            assert len(reader.read(10)) == 1
        else:
            assert reader.accept_notices([notice], hearsay) is not None
    assert [start for start, _ in hearsay.runs] == [1, 3]
    assert confirm_with_log(log, {0: hearsay}) == {}


def test_what_was_trimmed_since_is_not_held_against_anybody(log: EventLog, told: Told) -> None:
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    told(1)
    one.write(body(1))
    one.write(body(2))
    for notice in told(2):
        assert reader.accept_notices([notice], hearsay) is not None
    log.trim_feed(0, 3)
    assert confirm_with_log(log, {0: hearsay}) == {}


def test_one_partition_that_was_lied_about_does_not_hide_the_others() -> None:
    log = MemoryLog(partitions=2)
    hearsays = {}
    for partition in (0, 1):
        [author] = agents_of(log, 1, partition)
        author.write(body(0))
        reader = FeedReader(log, reader_of(log)._codec, partition)
        all_facts(reader)
        reader.read(1)
        hearsays[partition] = UnconfirmedEvents()
        row = forged(author, 2, last_digest(log, author), body(666))
        notice = Notice(partition, STATE, 1, 2, [tuple(row)], 1, 1 << STATE)
        assert reader.accept_notices([notice], hearsays[partition]) is not None
        if partition == 0:
            author.write(body(666))
    assert {partition: type(error) for partition, error in confirm_with_log(log, hearsays).items()} == {1: DataLoss}


class Absent(MemoryLog):
    """Cannot be reached while `gone`."""

    gone = False

    def feed_pages(self, asked: Any) -> Any:
        if self.gone:
            raise Unavailable("not now")
        return super().feed_pages(asked)


def test_a_log_that_cannot_be_reached_is_asked_again() -> None:
    log = Absent(partitions=1)
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    hear_forged(reader, hearsay, 1, forged(one, 2, last_digest(log, one), body(666)))
    log.gone = True
    with pytest.raises(Unavailable):
        confirm_with_log(log, {0: hearsay})
    log.gone = False
    assert isinstance(wrong(log, hearsay), DataLoss)


# -- several levels in one batch ---------------------------------------------------------------------------------------

LIFECYCLE, TRACE = Granularity.LIFECYCLE, Granularity.TRACE


def mixed(author: Author, first: int, *levels: Granularity) -> Append:
    """An append of events with these levels, one each."""
    return author.append(
        *[body(number, level=level) for number, level in enumerate(levels, first)], levels=bytes(levels)
    )


def test_a_batch_of_several_levels_is_heard_when_all_its_messages_are_there(log: EventLog, told: Told) -> None:
    one, two, three = agents_of(log, 3)
    reader, hearsay = standing(log, one, two, three), UnconfirmedEvents()
    told(3)
    behind = reader_of(log, reader.mark)
    appends = [
        mixed(one, 1, STATE, ACTIVITY, ACTIVITY, STATE, TRACE),
        mixed(two, 6, ACTIVITY, STATE),
        mixed(three, 8, STATE),
    ]
    log.commit(0, appends)
    messages = told(3)
    assert complete_batches(messages[:2]) == complete_batches(messages[1:]) == []
    assert rows_of(messages[:2]) is None
    [batch] = complete_batches(messages)
    assert reader.accept_notices(batch[:2], hearsay) is None
    facts = reader.accept_notices(batch, hearsay)
    assert facts is not None
    assert fields(facts) == fields(behind.read(100))
    assert [(fact.agent, fact.raw[2]) for fact in facts] == [
        *[(one.agent, level) for level in (STATE, ACTIVITY, ACTIVITY, STATE, TRACE)],
        *[(two.agent, level) for level in (ACTIVITY, STATE)],
        (three.agent, STATE),
    ]
    assert reader.mark == behind.mark
    assert confirm_with_log(log, {0: hearsay}) == {}
    assert reader.read(1) == []


def test_a_reader_of_fewer_levels_does_not_take_what_it_cannot_check(log: EventLog, told: Told) -> None:
    [one] = agents_of(log, 1)
    one.write(body(0))
    reader = reader_of(log, level=STATE)
    all_facts(reader)
    told(1)
    log.commit(0, [mixed(one, 1, STATE, ACTIVITY, STATE)])
    [batch] = complete_batches(told(2))
    assert reader.accept_notices(batch, UnconfirmedEvents()) is None
    assert [fact.raw[4]["number"] for fact in all_facts(reader)] == [1, 3]


def test_agents_whose_order_no_message_shows_are_read(log: EventLog, told: Told) -> None:
    one, two = agents_of(log, 2)
    reader, hearsay = standing(log, one, two), UnconfirmedEvents()
    told(2)
    log.commit(0, [mixed(one, 1, STATE), mixed(two, 2, ACTIVITY)])
    [batch] = complete_batches(told(2))
    assert reader.accept_notices(batch, hearsay) is None
    assert (reader.mark.position, hearsay.count) == (2, 0)
    assert places_of(all_facts(reader)) == [(one.agent, 2), (two.agent, 2)]


def test_messages_of_other_batches_do_not_complete_one(log: EventLog, told: Told) -> None:
    one, two = agents_of(log, 2)
    standing(log, one, two)
    told(2)
    for number in range(2):
        one.write(body(number), body(number, level=ACTIVITY), levels=bytes([STATE, ACTIVITY]))
    first, second = complete_batches(messages := told(4))
    assert [[notice.position for notice in batch] for batch in (first, second)] == [[3, 3], [4, 4]]
    assert complete_batches([messages[0], messages[3], messages[1], messages[2]]) == []
    assert complete_batches([messages[0], messages[0], messages[1]]) == [first]


SPOILED: dict[str, Callable[[Notice], Notice]] = {
    "a stretch is missing": lambda state: evolve(state, events=[]),
    "an agent is missing": lambda state: evolve(state, position=state.position + 1),
    "no events": lambda state: evolve(state, events=None),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_batch_of_which_something_is_missing_is_not_taken(log: EventLog, told: Told, how: str) -> None:
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    told(1)
    log.commit(0, [mixed(one, 1, ACTIVITY, STATE, ACTIVITY)])
    state, activity = sorted(told(2), key=lambda notice: notice.level)
    assert reader.accept_notices([SPOILED[how](state), activity], hearsay) is None
    assert (reader.mark.position, hearsay.count) == (1, 0)
    assert reader.accept_notices([state, activity], hearsay) is not None


def test_events_on_the_channel_of_another_level_are_refused(log: EventLog, told: Told) -> None:
    [one] = agents_of(log, 1)
    reader, hearsay = standing(log, one), UnconfirmedEvents()
    told(1)
    log.commit(0, [mixed(one, 1, STATE, ACTIVITY)])
    messages = [evolve(notice, level=notice.level + 1, levels=notice.levels << 1) for notice in told(2)]
    with pytest.raises(CorruptEvent):
        reader.accept_notices(messages, hearsay)
    assert (reader.mark.position, hearsay.count) == (1, 0)


# -- the stream ----------------------------------------------------------------------------------------------------


def test_only_who_asks_for_events_is_told_them(log: EventLog, told: Told) -> None:
    stream = log.notices()
    try:
        settled(stream)
        [one] = agents_of(log, 1)
        one.write(body(1))
        assert len(told(1)) == 1
        while stream.receive(LONG).get(0) != 1:
            assert stream.take_notices() == []
        assert stream.take_notices() == []
    finally:
        stream.close()


BROKEN: list[Any] = [
    [1, 2, [["acme/agent-0", 2]], 1, 4],
    [1, 2, [["acme/agent-0", 2, []]], 1, 4],
    [1, 2, [["acme/agent-0", 2, ["x", 5]]], 1, 4],
    [1, 2, [[7, 2, ["x"]]], 1, 4],
    [1, 2, [["acme/agent-0", "2", ["x"]]], 1, 4],
    [1, 2, [[b"\xff", 2, ["x"]]], 1, 4],
    [1, 2, {"a": 1}, 1, 4],
    [1, 2, 9, 1, 4],
    [1, 2, False, "1", 4],
    [1, 2, [["acme/agent-0", 2, ["x"]]], 1, None],
]


@pytest.mark.parametrize("message", BROKEN)
def test_a_message_of_another_form_is_counted_and_tells_nothing(message: Any) -> None:
    packed: Any = msgpack.packb(message)
    assert notice_of(0, STATE, packed) is None


def test_broken_old_and_repeated_messages_are_counted(place: Place, log: EventLog) -> None:
    if not isinstance(place, ServerPlace):
        return  # nobody can publish in memory
    stream = log.notices(events=True)
    try:
        settled(stream)
        [one] = agents_of(log, 1)
        channel = place.keys.channel(0, STATE)
        one.write(body(1))
        one.write(body(2))
        rows = [[one.agent, 1, ["x" * 20]]]
        lies: list[Any] = [*BROKEN[:1], [0, 1, rows, 0, 4], [1, 2, rows, 1, 4], [1, 2, rows, 1, 4]]
        for lie in lies:
            packed: Any = msgpack.packb(lie, use_bin_type=False)
            place.publish(channel, packed)
        deadline = monotonic() + LONG
        while stream.unexpected < 4:
            assert monotonic() < deadline, f"{stream.unexpected} were counted"
            stream.receive(0.2)
        one.write(body(3))
        while stream.receive(LONG).get(0) != 3:
            assert monotonic() < deadline
        assert [notice.position for notice in stream.take_notices()] == [3]
    finally:
        stream.close()
