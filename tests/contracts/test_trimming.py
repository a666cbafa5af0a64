"""Trimming logs and feeds: absolute numbers stay, the chain goes on; the same in memory, on Valkey and on Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from contracts.authors import Author, commit_one, head_of
from contracts.places import Place
from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST
from duramen.events.errors import AgentNotFound, CorruptEvent, Diverged, Trimmed
from duramen.events.log.event_log import EventLog
from duramen.events.log.reading import digest_at
from duramen.events.log.records import Base, Status

AGENT = "acme/alice"
STATE = b"the state there"


@pytest.fixture
def author(log: EventLog) -> Author:
    return Author(log, AGENT)


@pytest.fixture
def base_at(log: EventLog, author: Author) -> Callable[[int], Base]:
    """Of an agent with ten events: the base at a seq."""
    items = author.write(*author.bodies(10)).items
    return lambda seq: Base(seq, items[seq - 1][:DIGEST_SIZE])


def observed(place: Place, log: EventLog) -> object:
    """Everything that trimming may change."""
    return (
        place.items(log, AGENT),
        log.head(AGENT),
        log.base(AGENT),
        log.load([log.base_key(AGENT)]),
        log.positions(),
    )


# -- one agent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 4, 9, 10])
def test_what_is_left_keeps_its_numbers_and_its_digests(
    place: Place, log: EventLog, base_at: Callable[[int], Base], seq: int
) -> None:
    before, items = head_of(log, AGENT), place.items(log, AGENT)
    log.trim(AGENT, base_at(seq), STATE)
    assert head_of(log, AGENT) == evolve(before, base=seq)
    assert place.items(log, AGENT) == items[seq:]
    assert (log.base(AGENT), log.load([log.base_key(AGENT)])) == (base_at(seq), [STATE])
    page = log.read(AGENT, seq + 1, 100)
    assert page is not None
    assert (page.first_seq, page.items) == (seq + 1, items[seq:])
    with pytest.raises(Trimmed) as caught:
        log.read(AGENT, seq, 1)
    assert (caught.value.agent, caught.value.expected, caught.value.actual) == (AGENT, seq, seq + 1)


def test_a_whole_log_has_no_base(log: EventLog, base_at: Callable[[int], Base]) -> None:
    assert (log.base(AGENT), log.base("acme/nobody")) == (None, None)
    assert log.load([log.base_key(AGENT)]) == [None]


def test_twice_is_once(place: Place, log: EventLog, base_at: Callable[[int], Base]) -> None:
    log.trim(AGENT, base_at(4), STATE)
    after = observed(place, log)
    log.trim(AGENT, base_at(4), STATE)
    assert observed(place, log) == after


def test_a_base_moves_forward_only(place: Place, log: EventLog, base_at: Callable[[int], Base]) -> None:
    log.trim(AGENT, base_at(3), STATE)
    log.trim(AGENT, base_at(7), b"a later state")
    after = observed(place, log)
    for seq in (3, 6):
        with pytest.raises(Trimmed) as caught:
            log.trim(AGENT, base_at(seq), STATE)
        assert caught.value.actual == 8
    assert observed(place, log) == after
    assert log.load([log.base_key(AGENT)]) == [b"a later state"]


@pytest.mark.parametrize(
    "wrong",
    [Base(4, b"another  history"), Base(11, b"beyond the head!"), Base(10**9, NO_DIGEST)],
    ids=["another event", "beyond the head", "far beyond"],
)
def test_a_state_of_another_history_trims_nothing(
    place: Place, log: EventLog, base_at: Callable[[int], Base], wrong: Base
) -> None:
    before = observed(place, log)
    with pytest.raises(Diverged) as caught:
        log.trim(AGENT, wrong, STATE)
    assert (caught.value.agent, caught.value.seq) == (AGENT, wrong.seq)
    assert observed(place, log) == before


def test_another_state_for_the_same_base_must_be_of_the_same_history(
    place: Place, log: EventLog, base_at: Callable[[int], Base]
) -> None:
    log.trim(AGENT, base_at(4), STATE)
    before = observed(place, log)
    with pytest.raises(Diverged):
        log.trim(AGENT, Base(4, b"another  history"), b"x")
    assert observed(place, log) == before


def test_an_agent_that_is_not_there_is_not_made(log: EventLog) -> None:
    with pytest.raises(AgentNotFound):
        log.trim("acme/nobody", Base(1, NO_DIGEST), STATE)
    assert (log.head("acme/nobody"), log.load([log.base_key("acme/nobody")])) == (None, [None])


def test_a_damaged_list_is_not_trimmed(place: Place, log: EventLog, base_at: Callable[[int], Base]) -> None:
    place.keep(log, AGENT, place.items(log, AGENT)[:-1])
    before = observed(place, log)
    with pytest.raises(CorruptEvent):
        log.trim(AGENT, base_at(4), STATE)
    assert observed(place, log) == before


def test_appends_go_on_from_a_log_of_which_nothing_is_left(
    place: Place, log: EventLog, author: Author, base_at: Callable[[int], Base]
) -> None:
    log.trim(AGENT, base_at(10), STATE)
    assert place.items(log, AGENT) == []
    author.write(b"next")
    assert (head_of(log, AGENT).seq, head_of(log, AGENT).base) == (11, 10)
    page = log.read(AGENT, 11, 5)
    assert page is not None
    assert len(page.items) == 1


def test_the_last_append_is_recognised_when_it_comes_again_unless_all_of_it_is_gone(
    log: EventLog, author: Author
) -> None:
    author.fill(5)
    append = author.write(*author.bodies(5))
    log.trim(AGENT, Base(9, append.items[3][:DIGEST_SIZE]), STATE)
    assert commit_one(log, append).status is Status.DUPLICATE
    log.trim(AGENT, Base(10, append.items[4][:DIGEST_SIZE]), STATE)
    assert commit_one(log, append).status is Status.CONFLICT


def test_whoever_takes_over_a_trimmed_agent_learns_its_base(
    log: EventLog, author: Author, base_at: Callable[[int], Base]
) -> None:
    log.trim(AGENT, base_at(6), STATE)
    claim = log.claim([AGENT], "second", 5)[0]
    assert claim is not None
    assert (claim.head.base, claim.head.seq, claim.length) == (6, 10, 4)
    author.after_claim("third").write(b"next")


# -- what a log continues ----------------------------------------------------------------------------------------------


def test_the_digest_of_any_event_is_known_up_to_the_last_that_is_gone(
    log: EventLog, base_at: Callable[[int], Base]
) -> None:
    wanted = {seq: base_at(seq).digest for seq in range(1, 11)}
    assert digest_at(log, AGENT, 0) == NO_DIGEST
    assert {seq: digest_at(log, AGENT, seq) for seq in wanted} == wanted
    log.trim(AGENT, base_at(6), STATE)
    assert {seq: digest_at(log, AGENT, seq) for seq in range(6, 11)} == {seq: wanted[seq] for seq in range(6, 11)}
    assert digest_at(log, AGENT, 11) is None
    for seq in (1, 5):
        with pytest.raises(Trimmed) as caught:
            digest_at(log, AGENT, seq)
        assert caught.value.actual == 7
    with pytest.raises(AgentNotFound):
        digest_at(log, "acme/nobody", 1)


def test_a_trimmed_log_without_a_base_is_corrupt(place: Place, log: EventLog, base_at: Callable[[int], Base]) -> None:
    place.keep(log, AGENT, place.items(log, AGENT)[4:])
    place.write_head(log, AGENT, evolve(head_of(log, AGENT), base=4))
    with pytest.raises(CorruptEvent):
        digest_at(log, AGENT, 4)


# -- feeds -------------------------------------------------------------------------------------------------------------


def test_a_trimmed_feed_keeps_its_positions(log: EventLog, author: Author) -> None:
    for _ in range(6):
        author.fill(1)
    partition = log.partition_of(AGENT)
    entries = log.feed_page(partition, 0, 100).entries
    assert log.trim_feed(partition, 4) == 4
    page = log.feed_page(partition, 4, 100)
    assert (page.entries, page.end) == (entries[4:], 6)
    with pytest.raises(Trimmed) as caught:
        log.feed_page(partition, 3, 100).entries
    assert caught.value.actual == 4
    author.fill(1)
    assert log.positions()[partition] == 7
    assert [entry.first_seq for entry in log.feed_page(partition, 5, 100).entries] == [6, 7]


def test_a_feed_of_which_nothing_is_left_goes_on(log: EventLog, author: Author) -> None:
    author.fill(1).fill(1)
    partition = log.partition_of(AGENT)
    assert log.trim_feed(partition, 2) == 2
    assert log.positions()[partition] == 2
    author.fill(1)
    assert (log.positions()[partition], [e.first_seq for e in log.feed_page(partition, 2, 5).entries]) == (3, [3])


@pytest.mark.parametrize("position", [0, 2, 3, 7, 10**9])
def test_a_feed_is_trimmed_neither_backwards_nor_beyond_its_end(log: EventLog, author: Author, position: int) -> None:
    for _ in range(6):
        author.fill(1)
    partition = log.partition_of(AGENT)
    log.trim_feed(partition, 3)
    assert log.trim_feed(partition, position) == 3
    assert log.feed_page(partition, 3, 100).end == 6


def test_notices_tell_absolute_positions_after_a_trimming(place: Place, log: EventLog, author: Author) -> None:
    author.fill(1).fill(1)
    partition = log.partition_of(AGENT)
    log.trim_feed(partition, 2)
    with place.notices(log, partition) as heard:
        author.fill(1)
        [notice] = heard()
    assert (notice.previous, notice.position) == (2, 3)
