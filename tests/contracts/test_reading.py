"""Reading pages, the feed, snapshots and notices; the same in memory, on Valkey and on Redis."""

from __future__ import annotations

import pytest
from attrs import evolve

from contracts.authors import Author, commit_one, head_of
from contracts.places import Place, ServerPlace
from duramen.events.errors import CorruptEvent, DuramenError, InvalidMessage, InvalidPath, Trimmed
from duramen.events.log.event_log import EventLog
from duramen.events.log.keys import Keys
from duramen.events.log.notices import Notice
from duramen.events.log.records import FeedEntry, Head, Page, Put, Status
from duramen.events.model.event import Granularity
from duramen.events.model.limits import Limits

AGENT = "acme/alice"
LIFECYCLE, STATE, ACTIVITY, TRACE = Granularity

GOLDEN_PARTITIONS = {
    "acme/alice": 3,
    "acme/alice/helper/deep": 3,
    "acme/bob": 9,
    "project-1/0b6f5f0e-2c1d-4e57-8a3e-9f3c1f0a7b11": 9,
    "x/y": 11,
    "A/b.c_d-e": 7,
}


@pytest.fixture
def author(log: EventLog) -> Author:
    return Author(log, AGENT)


def trim(place: Place, log: EventLog, agent: str, count: int) -> Head:
    """As a trimming of the first `count` events leaves it: absolute numbers stay."""
    head = head_of(log, agent)
    place.keep(log, agent, place.items(log, agent)[count:])
    trimmed = evolve(head, base=head.base + count)
    place.write_head(log, agent, trimmed)
    return trimmed


# -- pages -------------------------------------------------------------------------------------------------------------


def test_an_unknown_agent_has_no_page(log: EventLog) -> None:
    assert log.read("acme/nobody", 1, 10) is None


def test_a_page_has_the_events_and_the_head_at_that_moment(log: EventLog, author: Author) -> None:
    append = author.write(b"one", b"two", b"three")
    head = head_of(log, AGENT)
    assert log.read(AGENT, 1, 10) == Page(head, 1, append.items)


@pytest.mark.parametrize(
    ("from_seq", "limit", "expected"),
    [
        (1, 1, [1]),
        (1, 4, [1, 2, 3, 4]),
        (4, 3, [4, 5, 6]),
        (9, 5, [9, 10]),
        (10, 1, [10]),
        (11, 5, []),
        (1_000_000_000_000, 5, []),
        (3, 0, [3]),
        (3, -5, [3]),
    ],
)
def test_a_page_starts_where_asked_and_has_at_most_as_many_events(
    log: EventLog, author: Author, from_seq: int, limit: int, expected: list[int]
) -> None:
    append = author.write(*author.bodies(10))
    page = log.read(AGENT, from_seq, limit)
    assert page is not None
    assert page.first_seq == from_seq
    assert page.items == [append.items[seq - 1] for seq in expected]
    assert page.head.seq == 10


def test_a_page_has_no_more_events_than_the_limit_of_the_log(place: Place) -> None:
    log = place.open(limits=Limits(page_events=7))
    append = Author(log, AGENT).write(*Author(log, AGENT).bodies(20))
    page = log.read(AGENT, 5, 1_000)
    assert page is not None
    assert page.items == append.items[4:11]


def test_a_page_ends_with_the_event_that_reaches_its_bytes(place: Place) -> None:
    log = place.open(limits=Limits(page_bytes=1_000))
    author = Author(log, AGENT)
    # With its digest an event has 400 bytes.
    append = author.write(*(bytes([number]) * 384 for number in range(10)))
    page = log.read(AGENT, 2, 100)
    assert page is not None
    assert page.items == append.items[1:4]


def test_an_event_larger_than_a_page_is_a_page(place: Place) -> None:
    log = place.open(limits=Limits(page_bytes=1_000))
    append = Author(log, AGENT).write(b"x" * 5_000, b"y")
    page = log.read(AGENT, 1, 100)
    assert page is not None
    assert page.items == append.items[:1]


def test_pages_follow_one_another_without_gap_or_overlap(place: Place) -> None:
    log = place.open(limits=Limits(page_events=9, page_bytes=2_000))
    author = Author(log, AGENT)
    written = [item for _ in range(5) for item in author.write(*author.bodies(40)).items]
    read: list[bytes] = []
    while True:
        page = log.read(AGENT, len(read) + 1, 1_000)
        assert page is not None
        if not page.items:
            break
        read += page.items
    assert read == written


def test_what_was_trimmed_cannot_be_read_and_the_error_says_what_is_left(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(10)
    trim(place, log, AGENT, 4)
    for seq in (1, 4):
        with pytest.raises(Trimmed) as caught:
            log.read(AGENT, seq, 10)
        assert (caught.value.agent, caught.value.actual) == (AGENT, 5)


def test_what_is_left_after_a_trim_keeps_its_numbers(place: Place, log: EventLog, author: Author) -> None:
    append = author.write(*author.bodies(10))
    head = trim(place, log, AGENT, 4)
    assert log.read(AGENT, 5, 3) == Page(head, 5, append.items[4:7])
    assert log.read(AGENT, 10, 3) == Page(head, 10, append.items[9:])


def test_after_everything_was_trimmed_the_next_event_has_the_next_number(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(10)
    trim(place, log, AGENT, 10)
    append = author.write(b"eleven")
    page = log.read(AGENT, 11, 5)
    assert page is not None
    assert page.items == append.items
    assert page.head.seq == 11


def test_a_retry_of_what_was_trimmed_is_never_committed_again(place: Place, log: EventLog, author: Author) -> None:
    append = author.write(*author.bodies(5))
    author.fill(5)
    trim(place, log, AGENT, 7)
    assert commit_one(log, append).status in (Status.CONFLICT, Status.EXISTS)
    assert len(place.items(log, AGENT)) == 3


@pytest.mark.parametrize("seq", [0, -1, -1_000_000])
def test_a_page_before_the_first_event_is_refused(log: EventLog, author: Author, seq: int) -> None:
    author.fill(3)
    with pytest.raises(DuramenError):
        log.read(AGENT, seq, 10)


@pytest.mark.parametrize("left", [2, 4])
def test_a_list_that_does_not_fit_its_head_is_not_read(place: Place, log: EventLog, author: Author, left: int) -> None:
    append = author.write(*author.bodies(3))
    place.keep(log, AGENT, [*append.items, *append.items][:left])
    with pytest.raises(CorruptEvent) as caught:
        log.read(AGENT, 1, 10)
    assert (caught.value.agent, caught.value.expected, caught.value.actual) == (AGENT, 3, left)


def test_a_trimmed_list_that_does_not_fit_its_head_is_told_in_absolute_numbers(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(6)
    trim(place, log, AGENT, 4)
    place.keep(log, AGENT, [])
    with pytest.raises(CorruptEvent) as caught:
        log.read(AGENT, 5, 10)
    assert (caught.value.expected, caught.value.actual) == (6, 4)


# -- the feed ----------------------------------------------------------------------------------------------------------


def test_the_feed_has_every_append_in_commit_order(log: EventLog) -> None:
    one, two = Author(log, "acme/root/one"), Author(log, "acme/root/two")
    partition = log.partition_of("acme/root")
    one.write(b"a", b"b", levels=bytes([LIFECYCLE, STATE]))
    two.write(b"c", level=TRACE)
    log.commit(partition, [two.append(b"d", level=ACTIVITY), one.append(b"e", b"f", b"g", levels=b"\x02\x02\x04")])
    assert log.feed_page(partition, 0, 100).entries == [
        FeedEntry("acme/root/one", 1, 2, 1 << LIFECYCLE | 1 << STATE),
        FeedEntry("acme/root/two", 1, 1, 1 << TRACE),
        FeedEntry("acme/root/two", 2, 1, 1 << ACTIVITY),
        FeedEntry("acme/root/one", 3, 3, 1 << STATE | 1 << TRACE),
    ]


def test_the_feed_goes_on_from_a_position_and_has_at_most_as_many_entries(log: EventLog, author: Author) -> None:
    for _ in range(10):
        author.fill(1)
    partition = log.partition_of(AGENT)
    firsts = {
        (position, limit): [entry.first_seq for entry in log.feed_page(partition, position, limit).entries]
        for position, limit in [(0, 3), (3, 3), (9, 3), (10, 3), (1_000, 3), (4, 0)]
    }
    assert firsts == {
        (0, 3): [1, 2, 3],
        (3, 3): [4, 5, 6],
        (9, 3): [10],
        (10, 3): [],
        (1_000, 3): [],
        (4, 0): [5],
    }


def test_refused_repeated_and_empty_appends_are_not_in_the_feed(log: EventLog, author: Author) -> None:
    append = author.write(b"one")
    commit_one(log, append)
    commit_one(log, author.append())
    commit_one(log, author.append(b"x", fence="9:nobody"))
    assert len(log.feed_page(log.partition_of(AGENT), 0, 100).entries) == 1


def test_each_partition_has_a_feed_of_its_own(log: EventLog) -> None:
    agents = [f"acme/agent-{number}" for number in range(30)]
    for agent in agents:
        Author(log, agent).fill(1)
    fed = {
        partition: [entry.agent for entry in log.feed_page(partition, 0, 100).entries]
        for partition in range(log.partitions)
    }
    assert fed == {
        partition: [agent for agent in agents if log.partition_of(agent) == partition]
        for partition in range(log.partitions)
    }


# -- snapshots and checkpoints -----------------------------------------------------------------------------------------


def test_a_snapshot_is_written_with_its_append_and_stays(log: EventLog, author: Author) -> None:
    key = log.snapshot_key(AGENT)
    author.write(b"one", puts=[Put(key, b"\x00state\xff")])
    assert log.load([key]) == [b"\x00state\xff"]
    assert log.exists([key]) == [True]
    author.write(b"two", puts=[Put(key, b"newer")])
    assert log.load([key]) == [b"newer"]


def test_many_keys_are_answered_in_the_order_asked(log: EventLog, author: Author) -> None:
    names = ["one", "two", "three"]
    keys = [log.checkpoint_key(AGENT, name) for name in names]
    author.write(b"x", puts=[Put(keys[0], b"1"), Put(keys[2], b"3", ttl_ms=600_000)])
    assert log.load([keys[2], keys[1], keys[0]]) == [b"3", None, b"1"]
    assert log.exists([keys[2], keys[1], keys[0]]) == [True, False, True]
    assert log.load([]) == []
    assert log.exists([]) == []


def test_the_puts_of_a_batch_go_to_those_they_belong_to(log: EventLog) -> None:
    """Also when an append between them is refused."""
    authors = [Author(log, f"acme/root/{name}") for name in ("a", "b", "c")]
    authors[1].fill(1)
    keys = [log.snapshot_key(author.agent) for author in authors]
    batch = [
        authors[0].append(b"1", puts=[Put(keys[0], b"of a")]),
        authors[1].append(b"2", fence="9:x", puts=[Put(keys[1], b"of b"), Put(keys[1] + "x", b"of b")]),
        authors[2].append(b"3", puts=[Put(keys[2], b"of c")]),
    ]
    statuses = [answer.status for answer in log.commit(log.partition_of("acme/root"), batch)]
    assert statuses == [Status.COMMITTED, Status.FENCED, Status.COMMITTED]
    assert log.load([*keys, keys[1] + "x"]) == [b"of a", None, b"of c", None]


def test_a_checkpoint_with_a_time_to_live_expires(place: Place, log: EventLog, author: Author) -> None:
    key, other = log.checkpoint_key(AGENT, "short"), log.snapshot_key(AGENT)
    author.write(b"one", puts=[Put(key, b"state", ttl_ms=150), Put(other, b"stays")])
    place.let_expire(log, key, 150)
    assert log.load([key, other]) == [None, b"stays"]
    assert log.exists([key, other]) == [False, True]


def test_a_checkpoint_is_there_before_it_expires(log: EventLog, author: Author) -> None:
    key = log.checkpoint_key(AGENT, "long")
    author.write(b"one", puts=[Put(key, b"state", ttl_ms=7 * 24 * 3_600_000)])
    assert log.load([key]) == [b"state"]


def test_an_id_used_again_names_the_newer_and_its_time_to_live(place: Place, log: EventLog, author: Author) -> None:
    key = log.checkpoint_key(AGENT, "same")
    author.write(b"one", puts=[Put(key, b"old", ttl_ms=100)])
    author.write(b"two", puts=[Put(key, b"new")])
    other = log.checkpoint_key(AGENT, "other")
    author.write(b"three", puts=[Put(other, b"x", ttl_ms=120)])
    place.let_expire(log, other, 120)
    assert log.load([key]) == [b"new"]


# -- notices -----------------------------------------------------------------------------------------------------------


def of_level(notices: list[Notice], level: Granularity) -> list[Notice]:
    return [notice for notice in notices if notice.level == level]


def test_a_batch_is_announced_once_a_level_with_its_events(place: Place, log: EventLog) -> None:
    one, two = Author(log, "acme/root/one"), Author(log, "acme/root/two")
    partition = log.partition_of("acme/root")
    with place.notices(log, partition) as heard:
        first = one.append(b"a", b"b", b"c", levels=bytes([LIFECYCLE, STATE, STATE]))
        second = two.append(b"d", b"e", levels=bytes([STATE, TRACE]))
        log.commit(partition, [first, second])
        notices = heard()
    bits = 1 << LIFECYCLE | 1 << STATE | 1 << TRACE
    assert sorted(notices, key=lambda notice: notice.level) == [
        Notice(partition, LIFECYCLE, 0, 2, [("acme/root/one", 1, first.items[:1])], 0, bits),
        Notice(
            partition,
            STATE,
            0,
            2,
            [
                ("acme/root/one", 2, first.items[1:]),
                ("acme/root/two", 1, second.items[:1]),
            ],
            0,
            bits,
        ),
        Notice(partition, TRACE, 0, 2, [("acme/root/two", 2, second.items[1:])], 0, bits),
    ]


def test_events_of_one_level_that_are_not_neighbours_are_announced_apart(place: Place, log: EventLog) -> None:
    """With the seq of the first of each stretch; one that was refused is not announced at all."""
    one, two = Author(log, "acme/root/one"), Author(log, "acme/root/two").fill(2)
    partition = log.partition_of("acme/root")
    with place.notices(log, partition) as heard:
        mixed = one.append(*one.bodies(6), levels=bytes([STATE, STATE, TRACE, STATE, TRACE, TRACE]))
        refused = two.append(b"x", expected=1)
        plain = two.append(b"y", b"z")
        log.commit(partition, [mixed])
        log.commit(partition, [refused])
        log.commit(partition, [plain])
        notices = heard()
    name, items, both = one.agent, mixed.items, 1 << STATE | 1 << TRACE
    assert sorted(notices, key=lambda notice: (notice.position, notice.level)) == [
        Notice(partition, STATE, 1, 2, [(name, 1, items[:2]), (name, 4, items[3:4])], 1, both),
        Notice(partition, TRACE, 0, 2, [(name, 3, items[2:3]), (name, 5, items[4:])], 1, both),
        Notice(partition, STATE, 2, 3, [(two.agent, 3, plain.items)], 2, 1 << STATE),
    ]


def test_each_notice_names_the_one_before_it_on_its_level(place: Place, log: EventLog, author: Author) -> None:
    """So a reader that missed one knows."""
    partition = log.partition_of(AGENT)
    with place.notices(log, partition) as heard:
        for level in (STATE, TRACE, STATE, LIFECYCLE, STATE, TRACE):
            author.write(b"x", level=level)
        notices = heard()
    chains = {
        level: [(notice.previous, notice.position) for notice in of_level(notices, level)] for level in Granularity
    }
    assert chains == {STATE: [(0, 1), (1, 3), (3, 5)], TRACE: [(0, 2), (2, 6)], LIFECYCLE: [(0, 4)], ACTIVITY: []}


def test_a_notice_stands_at_the_feed_position_of_its_batch(place: Place, log: EventLog) -> None:
    authors = [Author(log, f"acme/root/{number}") for number in range(3)]
    partition = log.partition_of("acme/root")
    with place.notices(log, partition) as heard:
        log.commit(partition, [author.append(b"1") for author in authors])
        notices = heard()
    assert [(notice.previous, notice.position, notice.before) for notice in notices] == [(0, 3, 0)]
    assert len(log.feed_page(partition, 0, 10).entries) == 3


def test_a_large_notice_has_positions_only(place: Place) -> None:
    log = place.open(limits=Limits(notice_bytes=1_000))
    author = Author(log, AGENT)
    partition = log.partition_of(AGENT)
    with place.notices(log, partition) as heard:
        author.write(b"x" * 984)  # with its digest, just as much as is allowed
        author.write(b"x" * 985)
        author.write(b"x" * 600, b"y" * 600, levels=bytes([STATE, ACTIVITY]))
        author.write(b"x" * 600, b"y" * 600)
        notices = heard()
    sizes = [
        (notice.position, None if notice.events is None else len(notice.events)) for notice in of_level(notices, STATE)
    ]
    assert sizes == [(1, 1), (2, None), (3, 1), (4, None)]
    assert [notice.events is not None for notice in of_level(notices, ACTIVITY)] == [True]


def test_what_is_not_committed_is_not_announced(place: Place, log: EventLog, author: Author) -> None:
    append = author.write(b"one")
    with place.notices(log, log.partition_of(AGENT)) as heard:
        assert commit_one(log, append).status is Status.DUPLICATE
        assert commit_one(log, author.append(b"x", fence="9:x")).status is Status.FENCED
        assert commit_one(log, author.append()).status is Status.COMMITTED
        log.claim([AGENT], "owner", 1)
        assert heard() == []


def test_the_notices_of_one_partition_are_not_those_of_another(place: Place, log: EventLog) -> None:
    mine = log.partition_of(AGENT)
    elsewhere = next(f"acme/agent-{n}" for n in range(100) if log.partition_of(f"acme/agent-{n}") != mine)
    with place.notices(log, mine) as heard:
        Author(log, elsewhere).fill(1)
        assert heard() == []
        Author(log, AGENT).fill(1)
        assert len(heard()) == 1


# -- the namespace -----------------------------------------------------------------------------------------------------


def test_the_identity_is_the_same_whenever_the_log_is_opened(place: Place) -> None:
    assert len({place.open().identity for _ in range(3)}) == 1
    assert len(place.open().identity) == 32


def test_the_number_of_partitions_is_that_of_the_first_opening(place: Place) -> None:
    first = place.open(partitions=5)
    Author(first, AGENT).fill(3)
    later = place.open(partitions=16)
    assert later.partitions == first.partitions == 5
    assert later.partition_of(AGENT) == first.partition_of(AGENT)
    assert head_of(later, AGENT).seq == 3


@pytest.mark.parametrize("partitions", [0, -1, 4_097])
def test_a_namespace_without_or_with_too_many_partitions_is_refused(place: Place, partitions: int) -> None:
    with pytest.raises(InvalidMessage):
        place.open(partitions=partitions)


@pytest.mark.parametrize("partitions", [1, 99, 100, 4_096])
def test_the_smallest_and_the_largest_number_of_partitions_work(place: Place, partitions: int) -> None:
    log = place.open(partitions=partitions)
    written = [0] * partitions
    for number in range(20):
        author = Author(log, f"acme/agent-{number}").fill(1)
        written[log.partition_of(author.agent)] += 1
    assert log.positions() == written
    assert len(list(log.directory())) == 20


def test_partitions_of_two_digits_have_the_keys_they_always_had_and_others_more_digits() -> None:
    keys = Keys("main")
    assert [keys.feed(number) for number in (0, 7, 99, 100, 4_095)] == [
        f"duramen:{{main:{digits}}}:feed" for digits in ("00", "07", "99", "100", "4095")
    ]


@pytest.mark.parametrize("namespace", ["", "-x", "a:b", "a}b", "ä", "x" * 65, "a/b", "a b", "a\n"])
def test_a_namespace_that_could_change_a_key_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidPath):
        Keys(namespace)


def test_a_tree_is_in_one_partition(log: EventLog) -> None:
    for root in ("acme/alice", "acme/bob", "x/y"):
        below = [root, f"{root}/a", f"{root}/a/b/c", f"{root}/{'z' * 100}"]
        assert len({log.partition_of(agent) for agent in below}) == 1


def test_the_partition_of_an_agent_never_changes(log: EventLog) -> None:
    """Golden values: what is stored would not be found again."""
    assert {agent: log.partition_of(agent) for agent in GOLDEN_PARTITIONS} == GOLDEN_PARTITIONS


def test_agents_are_spread_over_all_partitions(log: EventLog) -> None:
    counts = [0] * log.partitions
    for number in range(1_600):
        counts[log.partition_of(f"acme/agent-{number}")] += 1
    assert min(counts) > 50
    assert max(counts) < 160


def test_keys_of_different_agents_and_checkpoints_differ(log: EventLog) -> None:
    agents = ["acme/alice", "acme/alice/b", "acme/alice-b", "acme/al", "acme/Alice"]
    keys = [key for agent in agents for key in (log.log_key(agent), log.snapshot_key(agent))]
    keys += [log.checkpoint_key(agent, name) for agent in agents for name in ("a", "b", "A", "a ", "", "acme/alice")]
    assert len(set(keys)) == len(keys)


def test_no_text_of_a_user_stands_in_a_key(log: EventLog) -> None:
    secret = "Zebra"
    for key in (
        log.log_key(f"{secret}/{secret}"),
        log.snapshot_key(f"{secret}/{secret}"),
        log.checkpoint_key(f"{secret}/{secret}", secret),
    ):
        assert secret not in key
        assert key.isascii()


@pytest.mark.parametrize(("largest", "walks"), [(100, 1), (60_000, 7)])
def test_a_list_is_walked_through_once_for_a_page_of_small_events(place: Place, largest: int, walks: int) -> None:
    """In steps where large ones may be among them: the server is not to hold many of these at once."""
    if not isinstance(place, ServerPlace):
        return  # in memory nothing is walked through
    log = place.open(partitions=1)
    author = Author(log, "acme/alice")
    author.write(b"x" * largest)
    author.fill(199)
    log.read("acme/alice", 1, 1)  # the script is loaded
    place.call_each("CONFIG", "RESETSTAT")
    page = log.read("acme/alice", 2, 199)
    calls = place.count_calls("lrange")
    assert page is not None
    assert (len(page.items), calls) == (199, walks)
