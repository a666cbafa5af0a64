"""The index of unfinished work: written by appends, read in pages, in the order of due time."""

from __future__ import annotations

from time import time
from typing import Any

import pytest

from contracts.authors import Author, commit_one
from contracts.places import Place, ServerPlace
from duramen.events.errors import DuramenError
from duramen.events.log.event_log import EventLog
from duramen.events.log.host_store import Owner, Unfinished
from duramen.events.log.records import NOTHING_UNFINISHED, Base, Put, Status

AGENT = "acme/alice"
A = "a" * 32
TREE = [f"{AGENT}/helper-{number}" for number in range(9)]
FAR = 1 << 60


@pytest.fixture
def author(log: EventLog) -> Author:
    return Author(log, AGENT, f"1:{A}")


def listed(log: EventLog, until_ms: int = FAR, agent: str = AGENT) -> dict[str, int]:
    """All that is unfinished in the partition of an agent, in order."""
    page = log.hosts.unfinished(log.partition_of(agent), 1_000, until_ms=until_ms)
    return {each.agent: each.due_ms for each in page.agents}


# -- written -----------------------------------------------------------------------------------------------------------


def test_an_append_that_says_nothing_of_it_leaves_the_index_as_it_was(log: EventLog, author: Author) -> None:
    author.write(b"one")
    assert listed(log) == {}
    author.write(b"two", due_ms=17)
    author.write(b"three")
    assert listed(log) == {AGENT: 17}


def test_an_append_sets_changes_and_removes_its_agents_entry(log: EventLog, author: Author) -> None:
    author.write(b"one")
    for due, expected in [(0, {AGENT: 0}), (1_700_000_000_123, {AGENT: 1_700_000_000_123}), (-1, {}), (-1, {})]:
        author.write(b"next", due_ms=due)
        assert listed(log) == expected


@pytest.mark.parametrize("changes", [{}, {"entry": b"line"}, {"levels": bytes([1, 2])}, {"puts": True}])
def test_any_kind_of_append_may_have_a_due_time(log: EventLog, author: Author, changes: dict[str, Any]) -> None:
    """The plain ones take another way through the script than those with more than events of one level."""
    if "puts" in changes:
        changes = {"puts": [Put(log.snapshot_key(AGENT), b"snapshot"), Put(log.base_key(AGENT), b"base")]}
    for due in (5, 6, NOTHING_UNFINISHED):
        author.write(b"one", b"two", due_ms=due, **changes)
        assert listed(log) == ({AGENT: due} if due >= 0 else {})
    if "puts" in changes:
        assert log.load([log.snapshot_key(AGENT)]) == [b"snapshot"]


def test_an_append_with_requirements_may_have_a_due_time(log: EventLog, author: Author) -> None:
    author.write(b"one", entry=b"\x91\xa7running")
    child = Author(log, TREE[0], f"1:{A}")
    child.write(b"one", entry=b"line", requires=((AGENT, True),), due_ms=9)
    assert listed(log) == {TREE[0]: 9}


def test_the_appends_of_a_batch_write_their_own_entries(log: EventLog) -> None:
    authors = [Author(log, agent, f"1:{A}") for agent in TREE]
    partition = log.partition_of(AGENT)
    for dues in ([3, 2, 1, None, 0, 3, -1, None, 7], [None, -1, 5, -1, -1, None, 4, 0, -1]):
        batch = [author.append(b"event", due_ms=due) for author, due in zip(authors, dues, strict=True)]
        for author, append, answer in zip(authors, batch, log.commit(partition, batch), strict=True):
            author.settle(append, answer)
    assert listed(log) == {TREE[7]: 0, TREE[0]: 3, TREE[5]: 3, TREE[6]: 4, TREE[2]: 5}


def test_a_refused_append_leaves_the_index_as_it_was(log: EventLog, author: Author) -> None:
    author.write(b"one", due_ms=5)
    stale = author.copy()
    author.write(b"two")
    assert commit_one(log, stale.append(b"other", due_ms=NOTHING_UNFINISHED)).status is Status.CONFLICT
    fenced = author.copy()
    author.after_claim()
    assert commit_one(log, fenced.append(b"other", due_ms=99)).status is Status.FENCED
    assert commit_one(log, Author(log, TREE[0]).append(b"one", create=False, due_ms=1)).status is Status.GONE
    assert listed(log) == {AGENT: 5}


def test_an_append_without_events_leaves_the_index_as_it_was(log: EventLog, author: Author) -> None:
    author.write(b"one", due_ms=5)
    author.write(due_ms=NOTHING_UNFINISHED)
    assert listed(log) == {AGENT: 5}


def test_an_append_that_is_sent_again_does_not_bring_an_old_due_time_back(log: EventLog, author: Author) -> None:
    first = author.write(b"one", due_ms=5)
    author.write(b"two", due_ms=NOTHING_UNFINISHED)
    assert commit_one(log, first).status is Status.DUPLICATE
    assert listed(log) == {}


def test_trimming_and_claiming_leave_the_index_as_it_was(log: EventLog, author: Author) -> None:
    author.fill(3)
    author.write(b"more", due_ms=5)
    base = log.read(AGENT, 2, 1)
    assert base is not None
    log.trim(AGENT, Base(2, base.items[0][:16]), b"state")
    author.after_claim()
    log.trim_feed(log.partition_of(AGENT), 1)
    assert listed(log) == {AGENT: 5}


def test_a_damaged_index_refuses_the_append_and_nothing_of_it_is_written(server: ServerPlace) -> None:
    log = server.open()
    author = Author(log, AGENT).fill(1)
    server.client.set(server.keys.unfinished(log.partition_of(AGENT)), "something else")
    for changes in ({}, {"entry": b"line"}):
        with pytest.raises(DuramenError):
            commit_one(log, author.append(b"two", due_ms=5, **changes))
    assert len(server.items(log, AGENT)) == 1
    author.write(b"three")  # those that do not need it go on


def test_what_cannot_be_written_leaves_no_entry_out(server: ServerPlace) -> None:
    """An entry too many costs a look; one too few would be work that nobody finds again."""
    log = server.open()
    author = Author(log, AGENT).fill(1)
    author.write(b"two", due_ms=5)
    feed = server.keys.feed(log.partition_of(AGENT))
    aside = f"{feed}:aside"
    server.client.rename(feed, aside)
    server.client.set(feed, "something else")
    for changes in ({}, {"entry": b"line"}):
        with pytest.raises(DuramenError):
            commit_one(log, author.append(b"three", due_ms=NOTHING_UNFINISHED, **changes))
        assert listed(log) == {AGENT: 5}
    server.client.delete(aside)


# -- read --------------------------------------------------------------------------------------------------------------


def fill(log: EventLog, dues: dict[str, int]) -> None:
    for agent, due in dues.items():
        Author(log, agent, f"1:{A}").write(b"one", due_ms=due)


def test_only_what_is_due_is_read_and_the_next_due_time_is_said(log: EventLog) -> None:
    fill(log, {TREE[0]: 30, TREE[1]: 10, TREE[2]: 20, TREE[3]: 20})
    page = log.hosts.unfinished(log.partition_of(AGENT), 100, until_ms=20)
    assert [each.agent for each in page.agents] == [TREE[1], TREE[2], TREE[3]]
    assert (page.until_ms, page.next_due_ms) == (20, 30)
    assert log.hosts.unfinished(log.partition_of(AGENT), 100, until_ms=9).next_due_ms == 10
    assert log.hosts.unfinished(log.partition_of(AGENT), 100, until_ms=30).next_due_ms is None


def test_due_is_what_the_servers_clock_says(place: Place, log: EventLog) -> None:
    now = int((getattr(place, "now", None) or time()) * 1000)
    fill(log, {TREE[0]: now - 60_000, TREE[1]: now + 3_600_000})
    page = log.hosts.unfinished(log.partition_of(AGENT), 100)
    assert [each.agent for each in page.agents] == [TREE[0]]
    assert abs(page.until_ms - now) < 60_000
    assert page.next_due_ms == now + 3_600_000


def test_whoever_has_the_tree_is_said(log: EventLog, author: Author) -> None:
    author.write(b"one", due_ms=5)
    [found] = log.hosts.unfinished(log.partition_of(AGENT), 10).agents
    assert found == Unfinished(AGENT, 5, Owner(1, A))
    assert log.hosts.release(AGENT, found.owner)
    [found] = log.hosts.unfinished(log.partition_of(AGENT), 10).agents
    assert found.owner == Owner(1)


def pages(log: EventLog, limit: int, between: Any = None) -> list[Unfinished]:
    found: list[Unfinished] = []
    while True:
        page = log.hosts.unfinished(log.partition_of(AGENT), limit, after=found[-1] if found else None, until_ms=50)
        if not page.agents:
            return found
        found += page.agents
        if between is not None:
            between(found)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_bring_each_agent_once_in_order(log: EventLog, limit: int) -> None:
    dues = {agent: (number * 7 % 3) * 20 for number, agent in enumerate(TREE)}
    fill(log, {**dues, f"{AGENT}/later": 51})
    assert [(each.due_ms, each.agent) for each in pages(log, limit)] == sorted(
        (due, agent) for agent, due in dues.items()
    )


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_no_agent_that_stays_is_left_out_where_others_go_while_pages_are_read(log: EventLog, limit: int) -> None:
    authors = {agent: Author(log, agent, f"1:{A}") for agent in TREE}
    for author in authors.values():
        author.write(b"one", due_ms=0)
    gone: set[str] = set()

    def finish(found: list[Unfinished]) -> None:
        """The last of the page, from which the next would go on, and one that was read before."""
        for agent in {found[-1].agent, found[0].agent} - gone:
            if len(gone) < 5:
                authors[agent].write(b"done", due_ms=NOTHING_UNFINISHED)
                gone.add(agent)

    found = {each.agent for each in pages(log, limit, finish)}
    assert found == set(TREE)
    assert gone
