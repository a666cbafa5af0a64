"""With an integrity key a log cannot be written anew by who holds only the database; without one it can."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from contracts.feeds import agents_of, all_facts, body, reader_of
from contracts.keyed import ALICE, CODEC, EVERY_SECOND, KEY, LIMITS, forged, lie, lived, log_of, rewritten
from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.actors import AgentSystem
from duramen.events import CorruptEvent
from duramen.events.codec.digest_chain import PLAIN, DigestChain
from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST
from duramen.events.codec.snapshot import pack_snapshot, unpack_snapshot
from duramen.events.feed.reader import FeedReader
from duramen.events.log.event_log import EventLog
from duramen.events.log.records import Base, Put
from duramen.events.model.cursor import Mark
from duramen.projections.integrity.damage import Kind

# -- events ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_seq", [1, 2])
def test_a_chain_that_was_written_anew_is_found(place: Place, from_seq: int) -> None:
    log = log_of(place, KEY)
    lived(log)
    lie(place, log, from_seq)
    with AgentSystem.open(log=log_of(place, KEY)) as system:
        report = system.verify()
        assert [problem.seq for problem in report.problems if problem.kind is not Kind.SNAPSHOT] == [from_seq]
        for read in (
            lambda: list(system.events(ALICE)),
            lambda: system.state_at(ALICE, seq=2),
            lambda: system.agent(ALICE).get("goal"),
            lambda: all_facts(FeedReader(log, CODEC, log.partition_of(ALICE))),
            lambda: system.export_session(ALICE, BytesIO()),
            lambda: system.fork(ALICE, to="acme/fork"),
        ):
            with pytest.raises(CorruptEvent) as caught:
                read()
            assert caught.value.seq == from_seq


@pytest.mark.parametrize("from_seq", [1, 2])
def test_without_a_key_the_same_chain_passes(place: Place, from_seq: int) -> None:
    log = log_of(place, None)
    with AgentSystem.open(log=log) as system:
        system.spawn(ALICE).set("goal", "tell the truth")
    lie(place, log, from_seq)
    with AgentSystem.open(log=log_of(place, None)) as system:
        assert system.verify().ok
        assert system.agent(ALICE).get("goal") == "lie"


def test_nothing_can_be_added_to_a_log_without_its_key(place: Place) -> None:
    log = log_of(place, KEY)
    lived(log)
    items = place.items(log, ALICE)
    added = forged(items[1], "tell the truth", "lie")
    rewritten(place, log, len(items) + 1, [*items, added])
    with AgentSystem.open(log=log_of(place, KEY)) as system:
        (problem,) = system.verify().problems
        assert problem.seq == len(items) + 1
        with pytest.raises(CorruptEvent):
            system.agent(ALICE).get("goal")


@pytest.mark.parametrize(("key", "believed"), [(KEY, False), (None, True)], ids=["key", "no key"])
def test_behind_a_trimmed_event_nothing_is_believed_where_there_is_a_key(
    place: Place, key: bytes | None, believed: bool
) -> None:
    """The digest before it is gone, too, so that without a key nothing could be compared."""
    log = log_of(place, key)
    (author,) = agents_of(log, 1)
    digest, items = NO_DIGEST, list[bytes]()
    for number in range(3):
        digest = log.chain.digest(digest, body(number))
        items.append(digest + body(number))
    for at, item in enumerate(items):
        append = author.append(item[DIGEST_SIZE:])
        append.items[:] = [item]
        (answer,) = log.commit(0, [append])
        author.settle(append, answer)
        assert author.seq == at + 1
    log.trim(author.agent, Base(2, items[1][:DIGEST_SIZE]), b"state")
    assert [fact.seq for fact in all_facts(reader_of(log, Mark(2, 0)))] == [3]
    if isinstance(place, MemoryPlace):
        place.log._storage.parts[0].bases.clear()
    else:
        assert isinstance(place, ServerPlace)
        place.client.delete(place.keys.bases(0))
    place.keep(log, author.agent, [items[2][:DIGEST_SIZE] + body(99)])
    reader = reader_of(log, Mark(2, 0))
    if believed:
        assert [fact.raw[4]["number"] for fact in all_facts(reader)] == [99]
        return
    with pytest.raises(CorruptEvent):
        reader.read(10)


# -- snapshots ---------------------------------------------------------------------------------------------------------


def forged_snapshot(log: EventLog, stored: bytes | None, chain: DigestChain) -> bytes:
    assert stored is not None
    record = unpack_snapshot(stored, ALICE, CODEC, LIMITS, log.chain)
    record.state["agent"]["memory"]["creed"] = "lie"
    return pack_snapshot(record, CODEC, LIMITS, chain)


def forge(log: EventLog, kind: str, chain: DigestChain) -> None:
    """Put another state into the place of what is stored, with a checksum that who holds the database can make."""
    if kind == "keyframe":
        (seq,) = log.archive.keyframes(ALICE)
        log.archive.keep_keyframe(ALICE, seq, forged_snapshot(log, log.archive.keyframe(ALICE, seq), chain))
        return
    keys = {
        "snapshot": log.snapshot_key(ALICE),
        "checkpoint": log.checkpoint_key(ALICE, "before"),
        "base": log.base_key(ALICE),
    }
    log.archive.put([Put(keys[kind], forged_snapshot(log, log.load([keys[kind]])[0], chain))])


def look(system: AgentSystem, kind: str) -> Any:
    alice = system.agent(ALICE)
    if kind == "keyframe":
        return system.state_at(ALICE, seq=2).get("creed")
    if kind == "checkpoint":
        alice.pause("now")
        alice.resume("before", clear_current=True)
    return alice.get("creed")


KINDS = ["snapshot", "checkpoint", "keyframe"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_with_a_checksum_that_needs_no_key_is_not_believed(place: Place, kind: str) -> None:
    log = log_of(place, KEY)
    prepared(log, kind)
    forge(log, kind, PLAIN)
    with AgentSystem.open(log=log_of(place, KEY)) as system:
        assert Kind.SNAPSHOT in [problem.kind for problem in system.verify().problems]
        assert look(system, kind) == "honest"


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_key_the_same_state_is_believed(place: Place, kind: str) -> None:
    log = log_of(place, None)
    prepared(log, kind)
    forge(log, kind, PLAIN)
    with AgentSystem.open(log=log_of(place, None)) as system:
        assert look(system, kind) == "lie"


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_with_the_checksum_of_its_key_is_the_one_that_is_used(
    place: Place, kind: str, key: bytes | None
) -> None:
    """So what the tests above have found is the checksum."""
    log = log_of(place, key)
    prepared(log, kind)
    forge(log, kind, DigestChain(key))
    with AgentSystem.open(log=log_of(place, key)) as system:
        assert look(system, kind) == "lie"


def prepared(log: EventLog, kind: str) -> None:
    lived(log, EVERY_SECOND)
    if kind == "keyframe":
        stored = log.load([log.checkpoint_key(ALICE, "before")])[0]
        assert stored is not None
        log.archive.keep_keyframe(ALICE, unpack_snapshot(stored, ALICE, CODEC, LIMITS, log.chain).seq, stored)


@pytest.mark.parametrize(("key", "believed"), [(KEY, False), (None, True)], ids=["key", "no key"])
def test_the_state_in_place_of_what_was_trimmed_needs_the_key(place: Place, key: bytes | None, believed: bool) -> None:
    log = log_of(place, key)
    with AgentSystem.open(log=log) as system:
        alice = system.spawn(ALICE, initial_state={"creed": "honest"})
        alice.set("goal", "tell the truth")
        alice.set("step", 1)
        assert system.trim(ALICE, keep_events=1).removed == 2
        assert system.verify().ok
    forge(log, "base", PLAIN)
    with AgentSystem.open(log=log_of(place, key)) as system:
        assert system.verify().ok is believed
        if believed:
            assert system.agent(ALICE).get("creed") == "lie"
        else:
            with pytest.raises(CorruptEvent):
                system.agent(ALICE).get("creed")
