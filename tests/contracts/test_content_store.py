"""Content beside logs: in chunks, once, only for agents that are there or are about to be."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest
from attrs import evolve

import msgpack
from contracts.authors import FENCE, Author, commit_one, linked
from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events.codec.event_codec import NO_DIGEST
from duramen.events.errors import AgentNotFound, CorruptEvent
from duramen.events.log import content_store
from duramen.events.log.content_store import CHUNK_BYTES, STAGED_MS, copy_contents, load_content, read_content
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Adoption, Status
from duramen.events.model.content import Content, content_digest

DAY_MS = STAGED_MS
ALICE, BOB = "acme/alice", "acme/bob"
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 7]


def make(size: int, seed: int = 0) -> bytes:
    return bytes((seed + number) % 251 for number in range(997)) * (size // 997) + b"x" * (size % 997)


def keep(log: EventLog, data: bytes, agent: str = ALICE, *, staged: bool = False) -> Content:
    content = Content(content_digest(data), len(data), is_text=False)
    log.contents.write(agent, content.digest, data, staged=staged)
    return content


def digests(log: EventLog, agent: str = ALICE) -> set[bytes]:
    return {each.digest for each in log.contents.list(agent)}


def make_older(place: Place, log: EventLog, by_ms: int) -> None:
    """Let so much time pass for what is there of Alice."""
    if isinstance(place, MemoryPlace):
        place.now += by_ms / 1000
    elif isinstance(place, ServerPlace):
        key = place.keys.contents(log.partition_of(ALICE), ALICE)
        listed: dict[bytes, bytes] = cast("Any", place.client.hgetall(key))
        for digest, stored in listed.items():
            size, written = msgpack.unpackb(stored)
            place.client.hset(key, digest, msgpack.packb([size, written - by_ms]))


def test_what_an_append_keeps_of_a_new_agent_stays_or_it_is_not_committed(log: EventLog) -> None:
    author, data = Author(log, ALICE), [make(10), make(20)]
    kept = [keep(log, each, staged=True).digest for each in data]
    missing = author.append(b"first", puts=log.contents.keep(ALICE, [*kept, content_digest(b"not there")]))
    assert commit_one(log, missing).status is Status.ERASED
    assert log.head(ALICE) is None
    author.write(b"first", puts=log.contents.keep(ALICE, kept))
    assert digests(log) == set(kept)
    assert log.contents.drop(ALICE, kept, 0) == 2


def test_what_an_append_keeps_has_no_day_to_live(server: ServerPlace) -> None:
    log = server.open()
    digest, other = (keep(log, make(size), agent, staged=True).digest for size, agent in ((10, ALICE), (20, BOB)))
    Author(log, ALICE).write(b"first", puts=log.contents.keep(ALICE, [digest]))
    for agent, held, stays in ((ALICE, digest, True), (BOB, other, False)):
        partition = log.partition_of(agent)
        for key in (server.keys.contents(partition, agent), server.keys.chunks(partition, agent, held)):
            left: Any = server.client.pttl(key)
            assert (left > 365 * DAY_MS) is stays


def test_the_clock_of_the_server_says_how_old_content_is(server: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose clock is three days behind, and one whose clock is right, agree on what is young."""
    log = server.open()
    Author(log, ALICE).fill(1)
    with monkeypatch.context() as patch:
        late = time.time_ns() - 3 * DAY_MS * 1_000_000
        patch.setattr("duramen.events.redis.stores.content_store.time_ns", lambda: late, raising=False)
        patch.setattr(time, "time_ns", lambda: late)
        content = keep(log, b"data")
    (listed,) = log.contents.list(ALICE)
    assert 0 <= listed.age_ms < DAY_MS
    assert log.contents.drop(ALICE, [content.digest], DAY_MS) == 0


def test_content_is_read_back_whole(log: EventLog) -> None:
    Author(log, ALICE).fill(1)
    kept = {size: keep(log, make(size)) for size in SIZES}
    for size, content in kept.items():
        assert read_content(log.contents, ALICE, content) == make(size)
    assert {each.digest: each.size for each in log.contents.list(ALICE)} == {
        content.digest: size for size, content in kept.items()
    }
    assert log.contents.read(ALICE, b"-" * 32) is None
    assert log.contents.list(BOB) == []


def test_content_is_kept_once_and_is_then_newer(place: Place) -> None:
    log = place.open()
    Author(log, ALICE).fill(1)
    data = make(2 * CHUNK_BYTES)
    content = keep(log, data)
    make_older(place, log, 3 * DAY_MS)
    before = log.contents.list(ALICE)[0]
    threads = [threading.Thread(target=keep, args=(log, data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (after,) = log.contents.list(ALICE)
    assert (after.digest, after.size) == (before.digest, before.size)
    assert after.age_ms < DAY_MS < before.age_ms
    assert log.contents.read(ALICE, content.digest) == data


def test_content_that_was_written_in_part_is_completed(server: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    log = server.open()
    Author(log, ALICE).fill(1)
    data = make(4 * CHUNK_BYTES)
    with monkeypatch.context() as patch:  # as of a writer that died after two chunks
        patch.setattr(
            "duramen.events.redis.stores.content_store.chunks_of", lambda _: content_store.chunks_of(data)[:2]
        )
        content = keep(log, data)
    with pytest.raises(CorruptEvent):
        read_content(log.contents, ALICE, content)
    keep(log, data)
    assert read_content(log.contents, ALICE, content) == data


def test_content_needs_its_agent(log: EventLog) -> None:
    with pytest.raises(AgentNotFound):
        keep(log, b"data")
    assert log.contents.list(ALICE) == []
    assert log.contents.read(ALICE, content_digest(b"data")) is None


def test_only_what_was_not_written_of_late_is_dropped(place: Place) -> None:
    log = place.open()
    Author(log, ALICE).fill(1)
    old = keep(log, b"old")
    make_older(place, log, 2 * DAY_MS)
    new = keep(log, b"new")
    both = [old.digest, new.digest, b"-" * 32]
    assert log.contents.drop(ALICE, both, 3 * DAY_MS) == 0, "control: they are younger"
    assert log.contents.drop(ALICE, both, DAY_MS) == 1
    assert digests(log) == {new.digest}
    assert log.contents.read(ALICE, old.digest) is None
    assert log.contents.read(ALICE, new.digest) == b"new"


def test_what_is_staged_for_an_agent_expires_unless_it_comes_to_be(place: Place) -> None:
    log = place.open()
    content, keys = keep(log, b"staged", staged=True), list[str]()
    assert log.contents.read(ALICE, content.digest) == b"staged"
    if isinstance(place, ServerPlace):
        partition = log.partition_of(ALICE)
        keys = [place.keys.contents(partition, ALICE), place.keys.chunks(partition, ALICE, content.digest)]
        for key in keys:
            assert STAGED_MS - 600_000 < place.client.pttl(key) <= STAGED_MS
    Author(log, ALICE).fill(1)
    keep(log, b"staged")
    if isinstance(place, ServerPlace):
        assert min(place.client.pttl(key) for key in keys) > 10_000 * STAGED_MS
        fresh = place.keys.chunks(partition, ALICE, keep(log, b"fresh").digest)
        assert place.client.pttl(fresh) == -1
    elif isinstance(place, MemoryPlace):
        place.now += STAGED_MS
        assert log.contents.read(ALICE, content.digest) == b"staged"


def test_what_was_staged_in_memory_is_gone_after_a_day() -> None:
    place = MemoryPlace()
    log = place.open()
    content = keep(log, b"staged", staged=True)
    place.now += STAGED_MS / 1000
    assert (log.contents.read(ALICE, content.digest), log.contents.list(ALICE)) == (None, [])


class Unlisted(dict[bytes, Any]):
    """Fails where all that is in it is gone through."""

    def __iter__(self) -> Any:
        raise AssertionError("all contents were gone through")

    items = keys = values = cast("Any", __iter__)


def test_one_content_in_memory_is_read_and_written_without_a_look_at_the_others() -> None:
    log = MemoryPlace().open()
    Author(log, ALICE).fill(1)
    store: Any = log.contents
    store._contents[ALICE] = Unlisted()
    content = keep(log, b"one")
    keep(log, b"one")
    assert log.contents.read(ALICE, content.digest) == b"one"
    assert log.contents.drop(ALICE, [content.digest], 0) == 1
    with pytest.raises(AssertionError, match="gone through"):  # control
        log.contents.list(ALICE)


def test_erasing_leaves_no_content(log: EventLog) -> None:
    for agent in (ALICE, BOB):
        Author(log, agent).fill(1)
        keep(log, make(3 * CHUNK_BYTES), agent)
        keep(log, b"other", agent)
    position = log.archive.erase_from_feed(ALICE, 0)[0]
    assert log.archive.erase(ALICE, [ALICE], position, [], "host", is_taken=False) == 1
    assert log.contents.list(ALICE) == []
    assert log.contents.read(ALICE, content_digest(b"other")) is None
    assert log.contents.read(BOB, content_digest(b"other")) == b"other"
    with pytest.raises(AgentNotFound):
        keep(log, b"late")


@pytest.mark.slow
def test_an_agent_of_thousands_of_contents_is_erased(server: ServerPlace) -> None:
    """More than Lua's stack takes at once."""
    log = server.open()
    Author(log, ALICE).fill(1)
    contents = server.keys.contents(log.partition_of(ALICE), ALICE)
    stored = msgpack.packb([4, 1])
    planted = {content_digest(b"%d" % number): stored for number in range(9_000)}
    server.client.hset(contents, mapping=planted)
    last = list(server.client.hscan(contents, count=10_000)[1])[-1]
    position = log.archive.erase_from_feed(ALICE, 0)[0]
    client: Any = cast("Any", log.archive)._server
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "read_hash", lambda *_: {b"-" * 32 if each == last else each: b"" for each in planted})
        assert log.archive.erase(ALICE, [ALICE], position, [], "host", is_taken=False) == -1, "control: one came since"
    assert log.archive.erase(ALICE, [ALICE], position, [], "host", is_taken=False) == 1
    assert log.contents.list(ALICE) == []


def test_content_that_comes_while_an_agent_is_erased_is_erased_too(
    server: ServerPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = server.open()
    Author(log, ALICE).fill(1)
    position = log.archive.erase_from_feed(ALICE, 0)[0]
    client: Any = cast("Any", log.archive)._server
    run = client.run_script

    def write_first(*arguments: Any) -> Any:
        monkeypatch.undo()
        keep(log, b"in between")
        return run(*arguments)

    monkeypatch.setattr(client, "run_script", write_first)
    assert log.archive.erase(ALICE, [ALICE], position, [], "host", is_taken=False) == -1
    assert log.archive.erase(ALICE, [ALICE], position, [], "host", is_taken=False) == 1
    assert log.contents.read(ALICE, content_digest(b"in between")) is None


def test_bytes_that_are_no_text_are_not_loaded_as_one(log: EventLog) -> None:
    Author(log, ALICE).fill(1)
    content = keep(log, b"\xff")
    assert load_content(log.contents, ALICE, content) == b"\xff", "control"
    with pytest.raises(CorruptEvent, match="not UTF-8"):
        load_content(log.contents, ALICE, evolve(content, is_text=True))


def test_copies_are_checked(log: EventLog) -> None:
    Author(log, ALICE).fill(1)
    content = keep(log, b"data")
    assert copy_contents(log.contents, ALICE, [content, content], BOB) == (content.digest,)
    assert log.contents.read(BOB, content.digest) == b"data"
    with pytest.raises(CorruptEvent):
        copy_contents(log.contents, ALICE, [Content(b"-" * 32, 4, is_text=False)], BOB)


@pytest.mark.slow
def test_thousands_of_agents_come_to_be_at_once(server: ServerPlace) -> None:
    """More than Lua's stack takes at once."""
    log, count = server.open(partitions=1), 9_000
    agents = [f"acme/alice/{number}" for number in range(count)]
    item = linked(NO_DIGEST, [b"body"])[0]
    pipeline = server.client.pipeline(transaction=False)
    for agent in agents:
        pipeline.rpush(server.keys.staged(0, agent, "t"), item)
    pipeline.execute()
    head: dict[str, Any] = {"seq": 1, "base": 0, "before": NO_DIGEST, "digest": item[:16], "updated_at": 5}
    entry: dict[str, Any] = {"entry": b"\x93\xa7running\xc0\xc0", "largest": len(item), "levels": 4}
    assert log.archive.adopt([Adoption(agent, **head, fence=FENCE, **entry) for agent in agents], "t") is None
    feed: list[Any] = server.client.lrange(server.keys.feed(0), 0, -1)
    assert [msgpack.unpackb(each)[0] for each in feed] == agents
