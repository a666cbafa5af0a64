"""Hosts, owners and channels: the same answers in memory and on servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import time
from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from contracts.authors import Author, commit_one, head_of
from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events.log.event_log import EventLog
from duramen.events.log.host_store import HostRecord, HostStore, MessageStream, Owner, owner_of, pack_host, unpack_host
from duramen.events.log.records import Head, Status

ALICE, HELPER = "acme/alice", "acme/alice/helper"
A, B, C = "a" * 32, "b" * 32, "c" * 32
NOBODY = Owner()


def row(host: str = A, **fields: Any) -> HostRecord:
    full = HostRecord(host, 0, "up", ("boot", 4026531836, 17, 3301), 1, ("researcher",), ("refund", "find"), 0)
    return evolve(full, **fields)


@pytest.fixture
def hosts(log: EventLog) -> HostStore:
    return log.hosts


@pytest.fixture
def alice(log: EventLog) -> Author:
    """Alice, created by host A, which so has her tree."""
    return Author(log, fence=f"1:{A}").fill(2)


def release(hosts: HostStore, agent: str = ALICE) -> Owner:
    """Let whoever has the tree give it up; returns its entry then."""
    held, _ = hosts.owner(agent)
    assert hosts.release(agent, held)
    return hosts.owner(agent)[0]


def claimed(log: EventLog, host: str, agent: str = ALICE) -> Author:
    """Claim an agent as it stands; returns an author under the new fence."""
    owner, head = log.hosts.owner(agent)
    assert head is not None
    answer = log.hosts.claim(agent, owner, head, host, 5)
    assert answer.claimed
    assert answer.head is not None
    return Author(log, agent, answer.head.fence, answer.head.seq, answer.head.digest)


def run_together(acts: Iterable[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


# -- hosts -------------------------------------------------------------------------------------------------------------


def test_a_host_that_has_joined_is_found_as_it_said(hosts: HostStore) -> None:
    assert hosts.hosts() == []
    assert hosts.find(A) is None
    unknown = row(B, machine=None, agent_types=(), message_types=())
    hosts.join(row())
    hosts.join(unknown)
    assert hosts.hosts() == [row(), unknown]
    assert hosts.find(B) == unknown


def test_each_beat_raises_the_number_and_says_the_load(hosts: HostStore) -> None:
    hosts.join(row())
    hosts.join(row(B, machine=None, agent_types=(), message_types=()))
    assert [hosts.beat(A, load) for load in (0, 7, 1)] == [1, 2, 3]
    assert hosts.beat(B, 4) == 1
    assert hosts.find(A) == row(beat=3, load=1)
    assert hosts.find(B) == row(B, machine=None, agent_types=(), message_types=(), beat=1, load=4)


def test_the_servers_time_is_told_in_microseconds(place: Place, hosts: HostStore) -> None:
    clock = (lambda: place.now) if isinstance(place, MemoryPlace) else time  # the servers run on this machine
    before = int(clock() * 1_000_000)
    found = hosts.time()
    assert found is not None
    assert before <= found <= clock() * 1_000_000


def test_a_host_that_has_not_joined_does_not_beat(hosts: HostStore) -> None:
    assert hosts.beat(A, 0) is None
    assert hosts.find(A) is None


def test_a_host_is_buried_at_the_beat_that_was_seen_and_beats_no_more(hosts: HostStore) -> None:
    hosts.join(row())
    seen = hosts.beat(A, 3)
    assert seen is not None
    assert hosts.bury(A, seen)
    found = hosts.find(A)
    assert found is not None
    assert (found.state, found.beat, found.ended_at > 0) == ("buried", seen, True)
    assert hosts.beat(A, 3) is None
    assert not hosts.set_state(A, "closed")
    assert hosts.find(A) == found


def test_a_host_that_has_beaten_since_it_was_seen_is_not_buried(hosts: HostStore) -> None:
    hosts.join(row())
    seen = hosts.beat(A, 0)
    assert seen is not None
    hosts.beat(A, 0)
    assert not hosts.bury(A, seen)
    assert hosts.beat(A, 0) == seen + 2


def test_burying_again_says_that_the_host_is_dead_whatever_was_seen(hosts: HostStore) -> None:
    hosts.join(row())
    assert hosts.bury(A, 0)
    assert hosts.bury(A, 0)
    assert hosts.bury(A, 5)
    assert hosts.bury(B, 1), "a host without a row counts as buried"


def test_a_host_drains_and_closes_and_closing_is_for_ever(hosts: HostStore) -> None:
    hosts.join(row())
    assert hosts.set_state(A, "draining")
    assert hosts.beat(A, 1) == 1, "a host that drains lives"
    assert hosts.set_state(A, "closed")
    closed = hosts.find(A)
    assert closed is not None
    assert (closed.state, closed.has_ended) == ("closed", True)
    assert hosts.beat(A, 1) is None
    assert hosts.set_state(A, "draining"), "a copy of the call that arrives late"
    hosts.join(row())
    assert hosts.bury(A, 1)
    assert hosts.find(A) == closed
    assert not hosts.set_state(B, "draining")


def test_a_host_announces_other_agent_types_and_keeps_the_rest(hosts: HostStore) -> None:
    hosts.join(row(state="client"))
    hosts.announce(A, ("planner", "writer"))
    hosts.announce(B, ("planner",))
    assert hosts.hosts() == [row(state="client", agent_types=("planner", "writer"))]
    hosts.announce(A, ())
    assert hosts.beat(A, 0) == 1
    assert hosts.find(A) == row(state="client", agent_types=(), beat=1)


def test_only_rows_of_hosts_that_have_ended_are_forgotten(hosts: HostStore) -> None:
    for host in (A, B, C):
        hosts.join(row(host))
    hosts.set_state(A, "closed")
    hosts.bury(B, 0)
    hosts.forget([A, B, C, "d" * 32])
    hosts.forget([])
    assert hosts.hosts() == [row(C)]
    assert hosts.beat(B, 0) is None


@given(
    beat=st.integers(0, 2**40),
    state=st.sampled_from(["up", "draining", "closed", "buried"]),
    machine=st.none() | st.tuples(st.text(), st.integers(0, 2**40), st.integers(0, 2**22), st.integers(0, 2**40)),
    types=st.lists(st.text()).map(tuple),
)
def test_a_row_is_read_back_as_it_was_written(beat: int, state: Any, machine: Any, types: tuple[str, ...]) -> None:
    whole = HostRecord(A, beat, state, machine, 3, types, types, 9, 12)
    assert unpack_host(A, pack_host(whole)) == whole


@pytest.mark.parametrize("stored", [b"", b"\x00", b"\xc1", b"\x91\x01", pack_host(row()) + b"x"])
def test_a_damaged_row_is_no_host(server: ServerPlace, stored: bytes) -> None:
    hosts = server.open().hosts
    hosts.join(row(B))
    server.client.hset(server.keys.hosts, A, stored)
    assert hosts.hosts() == [row(B)]
    assert hosts.find(A) is None


def test_a_row_with_more_fields_is_read_and_keeps_them(server: ServerPlace) -> None:
    hosts = server.open().hosts
    packed = pack_host(row())
    server.client.hset(server.keys.hosts, A, bytes([packed[0] + 1]) + packed[1:] + b"\xa4more")
    assert hosts.beat(A, 2) == 1
    assert hosts.find(A) == row(beat=1, load=2)
    stored: Any = server.client.hget(server.keys.hosts, A)
    assert stored.endswith(b"more")


# -- owners ------------------------------------------------------------------------------------------------------------


def test_nobody_has_a_tree_that_is_new(hosts: HostStore) -> None:
    assert hosts.owner(ALICE) == (NOBODY, None)
    found = hosts.locate(ALICE)
    assert (found.owner, found.head, found.line) == (NOBODY, None, None)


def test_who_creates_an_agent_has_its_tree(log: EventLog, hosts: HostStore) -> None:
    author = Author(log, HELPER, fence=f"1:{A}")
    author.write(b"x", entry=b"line")
    assert hosts.owner(ALICE) == (Owner(1, A), None)
    assert hosts.owner(HELPER) == (Owner(1, A), head_of(log, HELPER))
    found = hosts.locate(HELPER)
    assert (found.owner, found.head, found.line) == (Owner(1, A), head_of(log, HELPER), b"line")


def test_another_host_cannot_create_an_agent_in_the_tree(log: EventLog, hosts: HostStore, alice: Author) -> None:
    theirs = Author(log, HELPER, fence=f"1:{B}")
    answer = commit_one(log, theirs.append(b"x"))
    assert (answer.status, owner_of(answer.fence.encode())) == (Status.OWNED, Owner(1, A))
    assert hosts.owner(HELPER) == (Owner(1, A), None)
    Author(log, HELPER, fence=f"1:{A}").write(b"x")
    assert hosts.owner(HELPER)[0] == Owner(1, A), "its own tree is not taken again"


def test_a_released_tree_is_had_by_the_next_who_creates_an_agent_in_it(
    log: EventLog, hosts: HostStore, alice: Author
) -> None:
    assert release(hosts) == Owner(1)
    Author(log, HELPER, fence=f"1:{B}").write(b"x")
    assert hosts.owner(ALICE)[0] == Owner(2, B)


def test_a_batch_that_creates_a_tree_takes_it_once(log: EventLog, hosts: HostStore) -> None:
    names = (ALICE, HELPER, "acme/alice/other")
    batch = [Author(log, name, fence=f"1:{A}").append(b"x") for name in names]
    batch.append(Author(log, "acme/alice/theirs", fence=f"1:{B}").append(b"x"))
    statuses = [answer.status for answer in log.commit(log.partition_of(ALICE), batch)]
    assert statuses == [Status.COMMITTED] * 3 + [Status.OWNED]
    assert hosts.owner(ALICE)[0] == Owner(1, A)


def test_an_append_that_is_refused_takes_no_tree(log: EventLog, hosts: HostStore) -> None:
    needs = Author(log, HELPER, fence=f"1:{A}").append(
        b"x", entry=b"\x93\xa7running\xc0\xc0", requires=((ALICE, True),)
    )
    assert commit_one(log, needs).status is Status.UNMET
    assert hosts.owner(ALICE)[0] == NOBODY


def test_appends_that_create_nothing_need_no_tree(log: EventLog, hosts: HostStore, alice: Author) -> None:
    hosts.take("acme/bob", NOBODY, B)
    alice.write(b"y")
    release(hosts)
    assert hosts.take(ALICE, Owner(1), B) == Owner(2, B)
    alice.write(b"z")  # the fence alone says who may append
    assert head_of(log, ALICE).seq == alice.seq


def test_a_claim_takes_tree_and_fence(log: EventLog, hosts: HostStore, alice: Author) -> None:
    nobody = release(hosts)
    answer = hosts.claim(ALICE, nobody, head_of(log, ALICE), B, 99)
    assert (answer.claimed, answer.owner, answer.length) == (True, Owner(2, B), 2)
    assert answer.head == head_of(log, ALICE)
    assert answer.head is not None
    assert (answer.head.fence, answer.head.claimed_at) == (f"2:{B}", 99)
    assert commit_one(log, alice.append(b"late")).status is Status.FENCED
    evolve(alice, fence=f"2:{B}").write(b"next")


def test_agents_are_looked_up_and_claimed_together_each_on_its_own(
    log: EventLog, hosts: HostStore, alice: Author
) -> None:
    bob, nobody = Author(log, "acme/bob", fence=f"1:{A}").fill(3), "acme/nobody"
    places = hosts.locate_all([ALICE, nobody, bob.agent])
    assert places == [hosts.locate(ALICE), hosts.locate(nobody), hosts.locate(bob.agent)]
    stale = evolve(head_of(log, ALICE), seq=1)
    claims = [(ALICE, Owner(1, A), stale), (bob.agent, Owner(1, A), head_of(log, bob.agent))]
    refused, answer = hosts.claim_all(claims, B, 99)
    assert (refused.claimed, refused.owner, refused.head) == (False, Owner(1, A), head_of(log, ALICE))
    assert (answer.claimed, answer.owner, answer.length) == (True, Owner(2, B), 3)
    assert hosts.locate_all([]) == hosts.claim_all([], B, 99) == []


def test_a_claim_is_refused_where_the_log_has_grown_since_it_was_folded(
    log: EventLog, hosts: HostStore, alice: Author
) -> None:
    folded = head_of(log, ALICE)
    alice.write(b"one more")
    nobody = release(hosts)
    answer = hosts.claim(ALICE, nobody, folded, B, 99)
    assert (answer.claimed, answer.owner, answer.head) == (False, nobody, head_of(log, ALICE))
    alice.write(b"nothing was taken")
    assert hosts.owner(ALICE)[0] == nobody


@pytest.mark.parametrize("stale", [{"fence": f"0:{A}"}, {"digest": b"d" * 16}, {"seq": 1}, {"seq": 3}])
def test_a_claim_is_refused_at_another_head_than_the_one_that_was_folded(
    log: EventLog, hosts: HostStore, alice: Author, stale: dict[str, Any]
) -> None:
    nobody = release(hosts)
    assert not hosts.claim(ALICE, nobody, evolve(head_of(log, ALICE), **stale), B, 99).claimed
    assert hosts.owner(ALICE) == (nobody, head_of(log, ALICE))
    alice.write(b"still mine")


def test_a_claim_is_refused_where_another_has_claimed_the_agent_since(
    log: EventLog, hosts: HostStore, alice: Author
) -> None:
    nobody, folded = release(hosts), head_of(log, ALICE)
    assert hosts.claim(ALICE, nobody, folded, B, 1).claimed
    lost = hosts.claim(ALICE, nobody, folded, C, 2)
    assert (lost.claimed, lost.owner, lost.head) == (False, Owner(2, B), head_of(log, ALICE))
    assert not hosts.claim(ALICE, Owner(2, B), folded, C, 3).claimed, "the fence has moved"
    assert hosts.owner(ALICE)[0] == Owner(2, B)


def test_a_dead_hosts_tree_is_claimed_from_it(log: EventLog, hosts: HostStore, alice: Author) -> None:
    dead, folded = hosts.owner(ALICE)
    assert dead == Owner(1, A)
    assert folded is not None
    assert hosts.claim(ALICE, dead, folded, B, 1).owner == Owner(2, B)


def test_the_owner_claims_one_agent_of_its_tree_after_the_other(log: EventLog, hosts: HostStore, alice: Author) -> None:
    Author(log, HELPER, fence=f"1:{A}").write(b"x")
    release(hosts)
    assert claimed(log, B).fence == f"2:{B}"
    assert hosts.owner(HELPER)[0] == Owner(2, B)
    assert claimed(log, B, HELPER).fence == f"2:{B}"
    assert hosts.owner(ALICE)[0] == Owner(2, B), "the tree changes hands once"
    again = claimed(log, B)
    assert again.fence == f"3:{B}", "an append of before that is still under way must not come through"


def test_a_claim_whose_reply_was_lost_is_recognised_when_it_is_repeated(
    log: EventLog, hosts: HostStore, alice: Author
) -> None:
    nobody, folded = release(hosts), head_of(log, ALICE)
    first = hosts.claim(ALICE, nobody, folded, B, 99)
    assert hosts.claim(ALICE, nobody, folded, B, 100) == first
    evolve(alice, fence=f"2:{B}").write(b"next")


def test_a_copy_of_a_claim_that_arrives_late_changes_nothing(log: EventLog, hosts: HostStore, alice: Author) -> None:
    nobody, folded = release(hosts), head_of(log, ALICE)
    hosts.claim(ALICE, nobody, folded, B, 99)
    given_up = release(hosts)
    assert not hosts.claim(ALICE, nobody, folded, B, 99).claimed
    assert hosts.owner(ALICE)[0] == given_up == Owner(2)


def test_nobody_claims_an_agent_that_does_not_exist(log: EventLog, hosts: HostStore, alice: Author) -> None:
    answer = hosts.claim("acme/bob", NOBODY, head_of(log, ALICE), B, 1)
    assert (answer.claimed, answer.owner, answer.head) == (False, NOBODY, None)


def test_a_tree_without_a_log_is_taken_before_its_first_append(log: EventLog, hosts: HostStore) -> None:
    assert hosts.take(ALICE, NOBODY, A) == Owner(1, A)
    assert hosts.take(ALICE, NOBODY, A) == Owner(1, A), "its reply was lost"
    assert hosts.take(ALICE, NOBODY, B) == Owner(1, A)
    assert commit_one(log, Author(log, fence=f"1:{B}").append(b"x")).status is Status.OWNED
    Author(log, fence=f"1:{A}").write(b"x")
    assert hosts.take(ALICE, Owner(1, A), B) == Owner(2, B), "A has been buried"


def test_a_tree_is_released_only_as_it_is_held(log: EventLog, hosts: HostStore, alice: Author) -> None:
    assert not hosts.release(ALICE, Owner(1, B))
    assert not hosts.release(ALICE, Owner(2, A))
    assert hosts.owner(ALICE)[0] == Owner(1, A)
    assert hosts.release(ALICE, Owner(1, A))
    assert hosts.release(ALICE, Owner(1, A)), "its reply was lost"
    claimed(log, A)
    assert not hosts.release(ALICE, Owner(1, A)), "a late copy must not give up what was claimed since"
    assert hosts.owner(ALICE)[0] == Owner(2, A)


def test_of_two_claimers_at_the_same_head_one_wins(place: Place) -> None:
    log = place.open()
    Author(log, fence=f"1:{A}").fill(1)
    for _ in range(20):
        nobody, head = release(log.hosts), head_of(log, ALICE)
        start = threading.Barrier(2)
        answers: dict[str, bool] = {}

        def claim(host: str, start: threading.Barrier, nobody: Owner, head: Head, answers: dict[str, bool]) -> None:
            start.wait(30)
            answers[host] = log.hosts.claim(ALICE, nobody, head, host, 1).claimed

        run_together(partial(claim, host, start, nobody, head, answers) for host in (B, C))
        winner = [host for host, won in answers.items() if won]
        assert [log.hosts.owner(ALICE)[0].host] == winner


@pytest.mark.parametrize(
    ("stored", "owner"),
    [
        (b"3:" + A.encode(), Owner(3, A)),
        (b"3:", Owner(3)),
        (b"", NOBODY),
        (b"3", NOBODY),
        (b":" + A.encode(), NOBODY),
        (b"x:y", NOBODY),
        (b"3:a b", NOBODY),
        (b"-1:a", NOBODY),
        (b"1" * 16 + b":a", NOBODY),
        (b"3:" + b"a" * 129, NOBODY),
        (b"3:a\n", NOBODY),
        (b"\xff:a", NOBODY),
    ],
)
def test_an_entry_of_another_form_is_nobodys_for_readers_and_scripts(
    server: ServerPlace, stored: bytes, owner: Owner
) -> None:
    log = server.open()
    Author(log, fence=f"1:{A}").fill(1)
    key = server.keys.owners(log.partition_of(ALICE))
    server.client.hset(key, ALICE, stored)
    assert log.hosts.owner(ALICE)[0] == owner
    assert log.hosts.take(ALICE, owner, B) == Owner(owner.epoch + 1, B)
    server.client.hset(key, ALICE, stored)
    assert log.hosts.claim(ALICE, owner, head_of(log, ALICE), C, 1).owner == Owner(owner.epoch + 1, C)
    server.client.hset(key, ALICE, stored)
    theirs = commit_one(log, Author(log, HELPER, fence=f"1:{B}").append(b"x"))
    assert theirs.status is (Status.OWNED if owner.host else Status.COMMITTED)


# -- channels ----------------------------------------------------------------------------------------------------------


def listening(hosts: HostStore) -> MessageStream:
    """A stream that hears from now on."""
    stream = hosts.listen(A)
    while not stream.subscriptions:
        stream.receive(10)
    return stream


def test_what_is_published_on_a_hosts_channel_arrives_in_order(hosts: HostStore) -> None:
    stream = listening(hosts)
    try:
        assert stream.subscriptions == 1
        assert hosts.publish(A, b"frame number one") == 1
        assert hosts.publish(B, b"for somebody else") == 0
        hosts.publish_all([(A, b"frame number two"), (B, b"for somebody else"), (A, b"x" * 1_000_000)])
        heard: list[bytes] = []
        while len(heard) < 3:
            heard += stream.receive(10)
        assert heard == [b"frame number one", b"frame number two", b"x" * 1_000_000]
    finally:
        stream.close()
    assert hosts.publish(A, b"frame number three") == 0


def test_a_stream_does_not_return_the_hosts_own_beats(hosts: HostStore) -> None:
    hosts.join(row())
    stream = listening(hosts)
    try:
        for _ in range(300):
            hosts.beat(A, 0)
        hosts.publish(A, b"a frame with its seal")
        assert stream.receive(10) == [b"a frame with its seal"]
    finally:
        stream.close()


def test_a_stream_that_waits_can_be_woken_and_closed(hosts: HostStore) -> None:
    stream = listening(hosts)
    stream.wake()
    assert stream.receive(None) == []
    ended = threading.Event()

    def receive() -> None:
        stream.receive(None)
        ended.set()

    thread = threading.Thread(target=receive)
    thread.start()
    stream.close()
    stream.close()
    assert ended.wait(30)
    thread.join(30)


def test_large_content_is_stored_for_a_time(place: Place) -> None:
    hosts = place.open().hosts
    content = b"\x00large\xff" * 20_000
    content_id = hosts.put_content(content, 60_000)
    assert hosts.get_content(content_id) == content
    assert hosts.get_content(uuid4().hex) is None
    assert hosts.put_content(content, 60_000) != content_id


def test_large_content_is_gone_after_its_time(place: Place) -> None:
    log = place.open()
    short = log.hosts.put_content(b"soon gone", 30)
    place.let_expire(log, place.keys.content(short), 30)
    assert log.hosts.get_content(short) is None


# -- the secret --------------------------------------------------------------------------------------------------------


def test_all_processes_of_a_log_have_one_secret_and_another_log_has_another(place: Place) -> None:
    one, two = place.open(), place.open()
    assert one.hosts.secret == two.hosts.secret
    assert len(one.hosts.secret) == 32
    assert MemoryPlace().open().hosts.secret != one.hosts.secret
