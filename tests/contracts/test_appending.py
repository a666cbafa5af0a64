"""What the log says to an append, in every case; the same in memory, on Valkey and on Redis."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from contracts.authors import FENCE, Author, commit_one, head_of, linked
from contracts.places import Place
from duramen.events.codec.event_codec import NO_DIGEST
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Answer, Append, Base, Entry, Head, Put, Status

AGENT = "acme/alice"
# All of one root agent, so of one partition.
TREE = [AGENT, *(f"{AGENT}/helper-{number}" for number in range(9))]


@pytest.fixture
def author(log: EventLog) -> Author:
    return Author(log, AGENT)


def everything(place: Place, log: EventLog) -> tuple[Any, ...]:
    """All that an append could have changed, for showing that one changed nothing."""
    partition = log.partition_of(AGENT)
    return (
        {agent: log.head(agent) for agent in TREE},
        {agent: place.items(log, agent) for agent in TREE},
        log.feed_page(partition, 0, 1_000).entries,
        sorted((entry.agent, entry.status) for entry in log.directory()),
    )


# -- committed -------------------------------------------------------------------------------------------------------


def test_a_first_append_makes_the_agent(place: Place, log: EventLog, author: Author) -> None:
    append = author.append(b"one", b"two", updated_at=77)
    assert commit_one(log, append) == Answer(Status.COMMITTED)
    assert place.items(log, AGENT) == append.items
    assert log.head(AGENT) == Head(2, 0, append.items[1][:16], FENCE, 77, 77)


def test_the_next_append_continues_where_the_last_one_ended(place: Place, log: EventLog, author: Author) -> None:
    first, second = author.write(b"one", b"two"), author.write(b"three", updated_at=99)
    assert place.items(log, AGENT) == first.items + second.items
    head = head_of(log, AGENT)
    assert (head.seq, head.digest, head.updated_at) == (3, second.items[0][:16], 99)


def test_an_agent_that_was_never_appended_to_has_no_head(log: EventLog) -> None:
    assert log.head("acme/nobody") is None


def test_a_batch_appends_for_many_agents(place: Place, log: EventLog) -> None:
    authors = [Author(log, agent) for agent in TREE]
    batch = [author.append(*author.bodies(number + 1)) for number, author in enumerate(authors)]
    answers = log.commit(log.partition_of(AGENT), batch)
    assert answers == [Answer(Status.COMMITTED)] * len(TREE)
    for number, append in enumerate(batch):
        assert place.items(log, append.agent) == append.items
        head = log.head(append.agent)
        assert head is not None
        assert (head.seq, head.digest) == (number + 1, append.items[-1][:16])


def test_every_append_of_a_batch_is_answered_on_its_own(place: Place, log: EventLog) -> None:
    """One append for each status; each refused one leaves its agent as it was, each other one is whole."""
    names = ["committed", "duplicate", "fenced", "conflict", "behind", "gone", "corrupt", "exists"]
    agents = {name: Author(log, f"{AGENT}/{name}") for name in names}
    for name in names:
        if name not in ("gone", "committed"):
            agents[name].fill(3)
    stale = agents["conflict"].copy()
    agents["conflict"].write(b"unknown to the stale one")
    again = agents["duplicate"].write(b"again")
    agents["fenced"].after_claim(now=123)
    place.keep(log, f"{AGENT}/corrupt", place.items(log, f"{AGENT}/corrupt")[:-1])
    appends = {
        "committed": agents["committed"].append(b"a", b"b"),
        "duplicate": again,
        "fenced": agents["fenced"].append(b"late"),
        "conflict": stale.append(b"other"),
        "behind": agents["behind"].append(b"x", expected=9),
        "gone": agents["gone"].append(b"x", expected=3, create=False),
        "corrupt": agents["corrupt"].append(b"x"),
        "exists": agents["exists"].append(b"x", expected=0, previous=NO_DIGEST, create=True),
    }
    before = {name: place.items(log, agents[name].agent) for name in names}
    answers = dict(zip(names, log.commit(log.partition_of(AGENT), [appends[name] for name in names]), strict=True))
    assert answers == {
        "committed": Answer(Status.COMMITTED),
        "duplicate": Answer(Status.DUPLICATE, 4, FENCE, 1_700_000_000_000_000),
        "fenced": Answer(Status.FENCED, 3, "2:second-owner", 123),
        "conflict": Answer(Status.CONFLICT, 4, FENCE, 1_700_000_000_000_000),
        "behind": Answer(Status.BEHIND, 3, FENCE, 1_700_000_000_000_000),
        "gone": Answer(Status.GONE),
        "corrupt": Answer(Status.CORRUPT, 3, FENCE, 1_700_000_000_000_000),
        "exists": Answer(Status.EXISTS, 3, FENCE, 1_700_000_000_000_000),
    }
    after = {name: place.items(log, agents[name].agent) for name in names}
    assert after == {**before, "committed": appends["committed"].items}


def test_a_refused_append_writes_nothing_of_its_many_events(place: Place, log: EventLog, author: Author) -> None:
    author.fill(1)
    before = everything(place, log)
    refused = author.append(*author.bodies(200), fence="1:somebody-else", puts=[Put(log.snapshot_key(AGENT), b"s")])
    assert commit_one(log, refused).status is Status.FENCED
    assert everything(place, log) == before
    assert log.load([log.snapshot_key(AGENT)]) == [None]


@pytest.mark.parametrize("count", [1, 256, 4_000, 4_001, 20_000])
def test_as_many_events_as_are_allowed_and_more_are_appended_at_once(
    place: Place, log: EventLog, author: Author, count: int
) -> None:
    append = author.write(*author.bodies(count))
    assert place.items(log, AGENT) == append.items


def test_bytes_of_every_kind_are_stored_as_they_are(place: Place, log: EventLog, author: Author) -> None:
    append = author.write(bytes(range(256)), b"", b"\r\n$3\r\n", "ü€😀".encode(), b"\x00" * 100_000)
    assert place.items(log, AGENT) == append.items


def test_times_and_positions_beyond_32_bits_are_kept_exactly(log: EventLog, author: Author) -> None:
    time = 4_102_444_800_000_001  # in the year 2100, in µs
    author.write(b"one", updated_at=time)
    claim = log.claim([AGENT], "owner", time + 2)[0]
    assert claim is not None
    assert (claim.head.updated_at, claim.head.claimed_at) == (time, time + 2)
    assert log.head(AGENT) == claim.head


# -- duplicate -------------------------------------------------------------------------------------------------------


def test_the_same_bytes_again_are_a_duplicate(place: Place, log: EventLog, author: Author) -> None:
    author.fill(2)
    append = author.write(b"three", b"four")
    before = everything(place, log)
    for _ in range(3):
        answer = commit_one(log, append)
        assert (answer.status, answer.head, answer.fence) == (Status.DUPLICATE, 4, FENCE)
    assert everything(place, log) == before


def test_a_first_append_again_is_a_duplicate_too(place: Place, log: EventLog, author: Author) -> None:
    append = author.write(b"one", b"two")
    before = everything(place, log)
    assert commit_one(log, append).status is Status.DUPLICATE
    assert everything(place, log) == before


def test_the_same_bytes_are_a_duplicate_even_when_the_log_has_gone_on(
    place: Place, log: EventLog, author: Author
) -> None:
    first, second = author.write(b"one", b"two"), author.write(b"three")
    author.fill(300)
    before = everything(place, log)
    for append in (first, second):
        answer = commit_one(log, append)
        assert (answer.status, answer.head) == (Status.DUPLICATE, 303)
    assert everything(place, log) == before


def test_the_same_bytes_are_a_duplicate_even_when_another_owns_the_agent(
    place: Place, log: EventLog, author: Author
) -> None:
    """The reply was lost, then the other claimed: what is in the log is not to be called fenced."""
    first = author.write(b"one")
    second = author.write(b"two")
    other = author.after_claim()
    other.write(b"three")
    before = everything(place, log)
    for append in (first, second):
        answer = commit_one(log, append)
        assert (answer.status, answer.head, answer.fence) == (Status.DUPLICATE, 3, "2:second-owner")
    assert everything(place, log) == before


def test_other_bytes_at_the_same_place_are_no_duplicate(log: EventLog, author: Author) -> None:
    stale = author.fill(2).copy()
    author.write(b"mine")
    assert commit_one(log, stale.append(b"other")).status is Status.CONFLICT


def test_the_same_body_behind_another_event_is_no_duplicate(log: EventLog, author: Author) -> None:
    """Negative control: a digest of the body alone would take one for the other."""
    stale = author.fill(2).copy()
    author.write(b"mine", b"same")
    assert commit_one(log, stale.append(b"other", b"same")).status is Status.CONFLICT


def test_a_duplicate_writes_its_snapshots_no_second_time(log: EventLog, author: Author) -> None:
    key = log.snapshot_key(AGENT)
    old = author.write(b"one", puts=[Put(key, b"old")])
    author.write(b"two", puts=[Put(key, b"new")])
    assert commit_one(log, old).status is Status.DUPLICATE
    assert log.load([key]) == [b"new"]


# -- fenced ----------------------------------------------------------------------------------------------------------


def test_who_was_claimed_away_is_fenced_and_told_by_whom_and_when(place: Place, log: EventLog, author: Author) -> None:
    author.fill(2)
    log.claim([AGENT], "thief", 1_234_567)
    before = everything(place, log)
    answer = commit_one(log, author.append(b"late"))
    assert answer == Answer(Status.FENCED, 2, "2:thief", 1_234_567)
    assert everything(place, log) == before


def test_a_claim_does_not_hide_that_the_log_lost_what_the_writer_had(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(2)
    kept, head, other = place.items(log, AGENT), log.head(AGENT), author.copy()
    author.fill(3)
    place.keep(log, AGENT, kept)
    place.write_head(log, AGENT, head)
    log.claim([AGENT], "thief", 5)
    other.fence = "2:thief"
    for written, status in ((0, Status.BEHIND), (2, Status.BEHIND), (1, Status.DIVERGED), (1, Status.DIVERGED)):
        for number in range(written):
            other.write(b"other %d" % number)
        for append in (author.append(b"late"), author.append()):
            assert commit_one(log, append) == Answer(status, other.seq, "2:thief", 5)
    assert len(place.items(log, AGENT)) == other.seq


def test_a_writer_that_was_claimed_away_is_compared_only_with_what_is_left(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(2)
    other = author.copy()
    log.claim([AGENT], "thief", 5)
    other.fence = "2:thief"
    other.fill(3)
    items = place.items(log, AGENT)
    for base in (1, 2, 4):
        log.trim(AGENT, Base(base, items[base - 1][:16]), b"state")
        assert commit_one(log, author.append(b"late")).status is Status.FENCED


def test_a_fence_of_the_same_epoch_and_another_owner_does_not_pass(log: EventLog, author: Author) -> None:
    """After a failover two primaries can issue the same epoch: the number alone is no fence."""
    author.fill(1)
    log.claim([AGENT], "one", 5)
    forged = evolve(author, fence="2:another")
    assert commit_one(log, forged.append(b"x")).status is Status.FENCED


def test_who_claims_may_append(log: EventLog, author: Author) -> None:
    author.fill(2)
    author.after_claim().fill(3)
    head = head_of(log, AGENT)
    assert head.seq == 5


# -- conflict, behind, exists ----------------------------------------------------------------------------------------


def test_who_lags_behind_with_the_right_fence_gets_a_conflict(place: Place, log: EventLog, author: Author) -> None:
    stale = author.fill(2).copy()
    author.fill(3)
    before = everything(place, log)
    answer = commit_one(log, stale.append(b"other"))
    assert (answer.status, answer.head) == (Status.CONFLICT, 5)
    assert everything(place, log) == before


def test_a_log_that_lost_acknowledged_events_is_called_behind_and_not_appended_to(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(2)
    kept, head = place.items(log, AGENT), log.head(AGENT)
    author.fill(3)
    # An older copy of the server's data is restored.
    place.keep(log, AGENT, kept)
    place.write_head(log, AGENT, head)
    before = everything(place, log)
    answer = commit_one(log, author.append(b"six"))
    assert (answer.status, answer.head) == (Status.BEHIND, 2)
    assert everything(place, log) == before


def test_a_lost_event_is_not_taken_for_a_duplicate(place: Place, log: EventLog, author: Author) -> None:
    author.fill(2)
    kept, head = place.items(log, AGENT), log.head(AGENT)
    author.fill(1)
    lost = author.write(b"four")
    place.keep(log, AGENT, kept)
    place.write_head(log, AGENT, head)
    assert commit_one(log, lost).status is Status.BEHIND


@pytest.mark.parametrize("fence", [FENCE, "1:somebody-else"])
def test_an_agent_is_made_only_once(place: Place, log: EventLog, author: Author, fence: str) -> None:
    author.fill(2)
    before = everything(place, log)
    answer = commit_one(log, Author(log, AGENT, fence=fence).append(b"another beginning"))
    assert (answer.status, answer.head, answer.fence) == (Status.EXISTS, 2, FENCE)
    assert everything(place, log) == before


# -- gone ------------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_gone_is_not_made_again_by_who_remembers_it(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(3)
    place.keep(log, AGENT, [])
    place.write_head(log, AGENT, None)
    before = everything(place, log)
    for append in (author.append(b"four"), author.append()):
        assert commit_one(log, append) == Answer(Status.GONE)
    assert everything(place, log) == before
    assert place.items(log, AGENT) == []
    assert log.head(AGENT) is None


def test_an_agent_that_is_gone_can_be_made_anew(log: EventLog, place: Place, author: Author) -> None:
    author.fill(3)
    place.keep(log, AGENT, [])
    place.write_head(log, AGENT, None)
    Author(log, AGENT).fill(1)
    head = head_of(log, AGENT)
    assert head.seq == 1


# -- corrupt ---------------------------------------------------------------------------------------------------------


def shortened(items: list[bytes]) -> list[bytes]:
    return items[:-1]


def lengthened(items: list[bytes]) -> list[bytes]:
    return [*items, linked(items[-1][:16], [b"pushed by somebody"])[0]]


def emptied(items: list[bytes]) -> list[bytes]:
    return []


@pytest.mark.parametrize("damage", [shortened, lengthened, emptied])
def test_a_list_that_does_not_fit_its_head_is_corrupt(place: Place, log: EventLog, author: Author, damage: Any) -> None:
    author.fill(3)
    place.keep(log, AGENT, damage(place.items(log, AGENT)))
    before = everything(place, log)
    for append in (author.append(b"four"), author.append()):
        assert commit_one(log, append).status is Status.CORRUPT
    assert everything(place, log) == before


def test_a_head_with_another_digest_than_the_writer_saw_is_corrupt(place: Place, log: EventLog, author: Author) -> None:
    """The same seq in another history: after a restore, for instance."""
    author.fill(3)
    head = head_of(log, AGENT)
    place.write_head(log, AGENT, evolve(head, digest=b"another  history"))
    before = everything(place, log)
    for append in (author.append(b"four"), author.append()):
        assert commit_one(log, append).status is Status.CORRUPT
    assert everything(place, log) == before


def test_a_list_without_a_head_is_corrupt_and_no_agent_is_made_on_it(
    place: Place, log: EventLog, author: Author
) -> None:
    place.keep(log, AGENT, linked(NO_DIGEST, [b"stray"]))
    assert commit_one(log, author.append(b"one")).status is Status.CORRUPT
    assert log.head(AGENT) is None


@pytest.mark.parametrize("at", [0, 8, 15])
def test_nothing_is_appended_to_a_last_event_with_another_digest(
    place: Place, log: EventLog, author: Author, at: int
) -> None:
    author.fill(3)
    *before, last = place.items(log, AGENT)
    damaged = last[:at] + bytes((last[at] ^ 1,)) + last[at + 1 :]
    for other in (damaged, b"", last[:at], damaged + last):
        place.keep(log, AGENT, [*before, other])
        for append in (author.append(), author.append(b"x"), author.append(b"x", b"y", levels=b"\x02\x03")):
            assert commit_one(log, append).status is Status.CORRUPT
        assert place.items(log, AGENT) == [*before, other]
    place.keep(log, AGENT, [*before, last])
    assert commit_one(log, author.append(b"x")).status is Status.COMMITTED


@pytest.mark.parametrize("size", [1, 3_000])
def test_nothing_is_appended_to_a_last_event_that_is_not_as_the_writer_knows_it(
    place: Place, log: EventLog, author: Author, size: int
) -> None:
    author.write(b"one", b"z" * size)
    *before, last = place.items(log, AGENT)
    put = Put(log.checkpoint_key(AGENT, "lunch"), b"state", 60_000)

    def appends(last: bytes) -> list[Append]:
        return [
            author.append(last=last),
            author.append(b"x", last=last),
            author.append(b"x", last=last, due_ms=5),
            author.append(b"x", b"y", levels=b"\x02\x03", last=last),
            author.append(b"x", puts=[put], due_ms=5, last=last),
        ]

    for other in (last[:-1] + bytes((last[-1] ^ 1,)), last[:16] + bytes((last[16] ^ 128,)) + last[17:], last + b"z"):
        place.keep(log, AGENT, [*before, other])
        for append in appends(last):
            assert commit_one(log, append).status is Status.CORRUPT
        assert place.items(log, AGENT) == [*before, other]
        for append in (author.append(), author.append(last=other)):
            assert commit_one(log, append).status is Status.COMMITTED, "control: it is this look that sees it"
    place.keep(log, AGENT, [*before, last])
    for number in range(len(appends(last))):
        append = appends(place.items(log, AGENT)[-1])[number]
        author.settle(append, commit_one(log, append))
    assert head_of(log, AGENT).seq == len(place.items(log, AGENT)) == 7


def test_an_append_that_names_the_last_event_meets_only_its_own_agents_damage(
    place: Place, log: EventLog, author: Author
) -> None:
    other = Author(log, f"{AGENT}/helper")  # of the same partition
    for each in (author, other):
        each.write(b"one")
    [last], [sound] = (place.items(log, each.agent) for each in (author, other))
    place.keep(log, AGENT, [last + b"z"])
    answers = log.commit(log.partition_of(AGENT), [author.append(b"x", last=last), other.append(b"x", last=sound)])
    assert [answer.status for answer in answers] == [Status.CORRUPT, Status.COMMITTED]


def test_a_retry_on_a_list_that_lost_its_end_is_no_duplicate(place: Place, log: EventLog, author: Author) -> None:
    author.fill(2)
    lost = author.write(b"three")
    place.keep(log, AGENT, place.items(log, AGENT)[:-1])
    assert commit_one(log, lost).status is not Status.DUPLICATE
    log.claim([AGENT], "thief", 5)
    assert commit_one(log, lost).status is Status.FENCED


# -- empty -----------------------------------------------------------------------------------------------------------


def test_an_empty_append_of_the_owner_is_committed_and_changes_nothing(
    place: Place, log: EventLog, author: Author
) -> None:
    author.fill(2)
    before = everything(place, log)
    assert commit_one(log, author.append()) == Answer(Status.COMMITTED)
    assert everything(place, log) == before


def test_an_empty_append_under_another_fence_is_fenced(log: EventLog, author: Author) -> None:
    author.fill(2)
    log.claim([AGENT], "thief", 99)
    assert commit_one(log, author.append()) == Answer(Status.FENCED, 2, "2:thief", 99)


def test_an_empty_append_of_who_lags_is_told_so(log: EventLog, author: Author) -> None:
    stale = author.fill(2).copy()
    author.fill(1)
    assert commit_one(log, stale.append()).status is Status.CONFLICT
    assert commit_one(log, author.append(expected=7)).status is Status.BEHIND


def test_an_empty_first_append_makes_no_agent(place: Place, log: EventLog, author: Author) -> None:
    assert commit_one(log, author.append()) == Answer(Status.COMMITTED)
    assert log.head(AGENT) is None
    assert place.items(log, AGENT) == []


def test_what_an_empty_append_brings_along_is_not_written(log: EventLog) -> None:
    """Alone or beside one that has events: a snapshot belongs to events."""
    quiet, busy = Author(log, AGENT).fill(1), Author(log, f"{AGENT}/busy")
    key = log.snapshot_key(AGENT)

    def empty() -> Append:
        return quiet.append(puts=[Put(key, b"snapshot")])

    assert commit_one(log, empty()).status is Status.COMMITTED
    assert log.load([key]) == [None]
    log.commit(log.partition_of(AGENT), [empty(), busy.append(b"one")])
    assert log.load([key]) == [None]


# -- claims ----------------------------------------------------------------------------------------------------------


def test_a_claim_gives_the_head_under_a_new_fence(log: EventLog, author: Author) -> None:
    author.fill(3)
    head = head_of(log, AGENT)
    claim = log.claim([AGENT], "owner", 42)[0]
    assert claim is not None
    assert claim.head == evolve(head, fence="2:owner", claimed_at=42)
    assert claim.length == 3
    assert log.head(AGENT) == claim.head


def test_each_claim_has_the_next_epoch_even_of_the_same_owner(log: EventLog, author: Author) -> None:
    """A claim whose reply was lost is sent again: that costs an epoch and nothing else."""
    author.fill(1)
    fences: list[str] = []
    for owner in ("a", "a", "b", "a"):
        claim = log.claim([AGENT], owner, 1)[0]
        assert claim is not None
        fences.append(claim.head.fence)
    assert fences == ["2:a", "3:a", "4:b", "5:a"]


def test_epochs_are_numbers_and_not_texts(log: EventLog, author: Author) -> None:
    author.fill(1)
    for _ in range(10):
        log.claim([AGENT], "a", 1)
    head = head_of(log, AGENT)
    assert head.fence == "11:a"


def test_an_owner_may_have_any_text_without_a_nul(log: EventLog, author: Author) -> None:
    author.fill(1)
    claim = log.claim([AGENT], "7:owner:with %s %d colons", 1)[0]
    assert claim is not None
    assert claim.head.fence == "2:7:owner:with %s %d colons"
    again = log.claim([AGENT], "x", 1)[0]
    assert again is not None
    assert again.head.fence == "3:x"


def test_unknown_agents_are_not_claimed_and_not_made(place: Place, log: EventLog) -> None:
    assert log.claim(["acme/nobody"], "owner", 1) == [None]
    assert log.head("acme/nobody") is None
    assert list(log.directory()) == []


def test_many_agents_of_many_partitions_are_claimed_in_the_order_asked(log: EventLog) -> None:
    agents = [f"acme/agent-{number}" for number in range(40)]
    for number, agent in enumerate(agents):
        if number % 3:
            Author(log, agent).fill(number)
    claims = log.claim(agents, "owner", 1)
    assert [claim.length if claim else None for claim in claims] == [
        number if number % 3 else None for number in range(40)
    ]
    assert log.claim([], "owner", 1) == []


def test_a_claim_tells_when_the_list_does_not_fit(place: Place, log: EventLog, author: Author) -> None:
    author.fill(3)
    place.keep(log, AGENT, place.items(log, AGENT)[:1])
    claim = log.claim([AGENT], "owner", 1)[0]
    assert claim is not None
    assert (claim.head.seq, claim.length) == (3, 1)


# -- the directory -----------------------------------------------------------------------------------------------------


def test_the_directory_has_every_agent_with_its_last_line(log: EventLog) -> None:
    # msgpack of [status, agent type, session id]
    running, ended = b"\x93\xa7running\xc0\xa2s1", b"\x93\xaaterminated\xa4type\xa2s2"
    first, second = Author(log, "acme/one"), Author(log, "other/two")
    first.write(b"1", entry=running)
    second.write(b"1", entry=running)
    second.write(b"2", entry=ended)
    second.write(b"3")
    assert sorted(log.directory(), key=lambda entry: entry.agent) == [
        Entry("acme/one", head_of(log, "acme/one"), "running", None, "s1"),
        Entry("other/two", head_of(log, "other/two"), "terminated", "type", "s2"),
    ]


RUNNING_LINE, ENDED_LINE = b"\x93\xa7running\xc0\xa1s", b"\x93\xaaterminated\xc0\xa1s"


def test_an_append_that_requires_another_agent_to_live_or_not_is_refused_where_that_is_not_so(log: EventLog) -> None:
    parent, child = Author(log, "acme/root"), Author(log, "acme/root/c")
    lives, ended = (("acme/root", True),), (("acme/root/c", False), ("acme/root", False))
    orphan = child.append(b"1", entry=RUNNING_LINE, requires=lives)
    assert commit_one(log, orphan) == Answer(Status.UNMET, 0), "there is no such agent"
    assert log.head("acme/root/c") is None
    parent.write(b"1", entry=RUNNING_LINE)
    refused = commit_one(log, child.append(b"1", entry=RUNNING_LINE, requires=ended))
    assert refused == Answer(Status.UNMET, 1), "the first that is not met"
    child.write(b"1", entry=RUNNING_LINE, requires=lives)
    assert commit_one(log, child.append(b"1", entry=RUNNING_LINE, requires=ended)).head == 0
    parent.write(b"2", entry=ENDED_LINE)
    assert commit_one(log, child.append(b"2", entry=ENDED_LINE, requires=lives)).status is Status.UNMET
    child.write(b"2", entry=ENDED_LINE)
    assert [found.status for found in log.directory()] == ["terminated", "terminated"]


def test_a_requirement_counts_what_the_appends_before_it_in_the_batch_change_and_not_those_after_it(
    log: EventLog,
) -> None:
    parent, child = Author(log, "acme/root"), Author(log, "acme/root/c")
    parent.write(b"1", entry=RUNNING_LINE)
    partition, alone = log.partition_of("acme/root"), (("acme/root/c", False),)

    def statuses(*batch: Append) -> list[Status]:
        return [answer.status for answer in log.commit(partition, batch)]

    spawn = child.append(b"1", entry=RUNNING_LINE, requires=(("acme/root", True),))
    end = parent.append(b"2", entry=ENDED_LINE, requires=alone)
    assert statuses(spawn, end) == [Status.COMMITTED, Status.UNMET]
    child.settle(spawn, Answer(Status.COMMITTED))
    end_child = child.append(b"2", entry=ENDED_LINE)
    assert statuses(end, end_child) == [Status.UNMET, Status.COMMITTED]
    assert statuses(end, spawn) == [Status.COMMITTED, Status.DUPLICATE], "and what was written before is there"
    assert head_of(log, "acme/root").seq == 2


def test_a_directory_of_more_agents_than_one_scan_gives_is_whole(log: EventLog) -> None:
    agents = {f"acme/root/agent-{number}" for number in range(1_500)}
    names = sorted(agents)
    for start in range(0, len(names), 500):
        batch = [Author(log, agent).append(b"one") for agent in names[start : start + 500]]
        assert {answer.status for answer in log.commit(log.partition_of("acme/root"), batch)} == {Status.COMMITTED}
    found = [entry.agent for entry in log.directory()]
    assert len(found) == len(agents)
    assert set(found) == agents


# -- writers -----------------------------------------------------------------------------------------------------------


def test_a_writer_has_many_batches_under_way_and_answers_all(log: EventLog) -> None:
    writer = log.writer()
    try:
        authors = [Author(log, f"acme/agent-{number}") for number in range(50)]
        sent: dict[int, Append] = {}
        for author in authors:
            append = author.append(*author.bodies(3))
            sent[id(append)] = append
            writer.send([(log.partition_of(author.agent), [append])])
        assert writer.in_flight == 50
        answered: list[tuple[Any, Any]] = []
        while writer.in_flight:
            answered += writer.receive(5)
        assert sorted(id(batch[0]) for batch, _ in answered) == sorted(sent)
        assert all(result == [Answer(Status.COMMITTED)] for _, result in answered)
    finally:
        writer.close()
    assert {head_of(log, author.agent).seq for author in authors} == {3}


def test_a_writer_without_anything_under_way_has_nothing_to_receive(log: EventLog) -> None:
    writer = log.writer()
    try:
        assert writer.in_flight == 0
        assert writer.receive(None) == []
        writer.wake()
        assert writer.receive(5) == []
    finally:
        writer.close()
    writer.wake()  # from a thread that has not yet heard
