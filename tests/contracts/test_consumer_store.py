"""The store of durable consumers: the same answers in memory and on servers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import uuid4

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.events import CorruptEvent, Fenced, InvalidMessage, NotPermitted
from duramen.events.log.consumer_store import (
    LIVE,
    NEXT,
    ConsumerRecord,
    ConsumerRequest,
    ConsumerStore,
    Failure,
    Saved,
    Slot,
    check_name,
    pack_record,
    unpack_record,
    unpack_request,
)
from duramen.events.log.event_log import EventLog
from duramen.events.model.cursor import Cursor, Mark
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog

START = Cursor("log-1")
THERE = Cursor("log-1", {3: Mark(7, 2, "acme/alice", 12, b"d" * 16)})


def fresh(name: str = "costs", *, slot: Slot = LIVE, version: int = 1, scope: str = "** 1234 *") -> ConsumerRecord:
    return ConsumerRecord(name=name, slot=slot, kind="whole", version=version, scope=scope, cursor=START)


def claimed(views: ConsumerStore, record: ConsumerRecord | None = None, owner: str = "one") -> ConsumerRecord:
    found = views.claim(record or fresh(), owner)
    assert found is not None
    return found


@pytest.fixture
def views(log: EventLog) -> ConsumerStore:
    return log.consumer_store()


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_nothing_is_known_of_a_consumer_that_was_never_attached(views: ConsumerStore) -> None:
    stored = views.find("costs")
    assert (stored.live, stored.next, stored.request) == (None, None, None)
    assert views.records() == []
    assert views.blob("costs", LIVE) is None
    assert list(views.entries("costs", LIVE)) == []


def test_the_first_claim_makes_the_record(views: ConsumerStore) -> None:
    found = claimed(views)
    assert found == evolve(fresh(), token="1:one")
    assert views.find("costs").live == found


def test_a_second_claim_fences_the_first_and_keeps_what_is_stored(views: ConsumerStore) -> None:
    first = claimed(views)
    views.save(evolve(first, cursor=THERE, applied=3), blob=b"view")
    second = claimed(views, owner="two")
    assert (second.token, second.cursor, second.revision, second.applied) == ("2:two", THERE, 1, 3)
    with pytest.raises(Fenced) as caught:
        views.save(evolve(first, revision=1), blob=b"other")
    assert caught.value.actual == "2:two"
    assert views.blob("costs", LIVE) == b"view"
    assert views.find("costs").live == second


def test_a_claim_that_is_asked_for_twice_is_one(views: ConsumerStore) -> None:
    assert claimed(views) == claimed(views)


def test_a_live_view_of_another_form_is_left_alone(views: ConsumerStore) -> None:
    first = claimed(views)
    assert views.claim(fresh(version=2), "two") is None
    assert views.claim(fresh(scope="acme/* 1234 *"), "two") is None
    assert views.find("costs").live == first
    assert views.save(first).current


def test_a_view_that_is_being_built_gives_way_to_one_of_another_form(views: ConsumerStore) -> None:
    first = claimed(views, fresh(slot=NEXT))
    views.save(evolve(first, cursor=THERE), changes={"a": b"1"})
    second = claimed(views, fresh(slot=NEXT, version=2), "two")
    assert (second.cursor, second.revision, second.version) == (START, 0, 2)
    assert list(views.entries("costs", NEXT)) == []
    with pytest.raises(Fenced):
        views.save(evolve(first, revision=1))


def test_a_view_that_is_being_built_goes_on_in_the_same_form(views: ConsumerStore) -> None:
    first = claimed(views, fresh(slot=NEXT))
    views.save(evolve(first, cursor=THERE), blob=b"half")
    second = claimed(views, fresh(slot=NEXT), "two")
    assert (second.cursor, second.revision) == (THERE, 1)
    assert views.blob("costs", NEXT) == b"half"


def test_anew_throws_away_whatever_there_is(views: ConsumerStore) -> None:
    first = claimed(views, fresh(slot=NEXT))
    views.save(evolve(first, cursor=THERE), blob=b"half")
    second = views.claim(fresh(slot=NEXT), "one", replace=True)
    assert second is not None
    assert (second.cursor, second.revision) == (START, 0)
    assert views.blob("costs", NEXT) is None
    assert views.claim(fresh(slot=NEXT), "one", replace=True) == second


# -- saving ------------------------------------------------------------------------------------------------------------


def test_a_view_and_its_cursor_are_read_back_as_saved(views: ConsumerStore) -> None:
    failure = Failure("ZeroDivisionError", "acme/alice", 13, "correct it", "f.py:3 in apply", True, 99)
    written = evolve(
        claimed(views),
        cursor=THERE,
        status="parked",
        applied=12,
        skipped=2,
        skips=(("acme/alice", 3), ("acme/bob", 9)),
        failure=failure,
        updated_at=1_700_000_000_000_000,
    )
    assert views.save(written, blob=b"\x00view") == Saved(True, 1, None)
    assert views.find("costs").live == evolve(written, revision=1)
    assert views.records() == [evolve(written, revision=1)]
    assert [(r.name, r.cursor) for r in views.records()] == [("costs", THERE)]
    assert views.blob("costs", LIVE) == b"\x00view"


def test_only_the_entries_that_are_named_are_written(views: ConsumerStore) -> None:
    record = claimed(views)
    views.save(record, changes={"a": b"1", "b": b"2", "ü/ key": b"3"})
    views.save(evolve(record, revision=1), changes={"b": b"4", "a": None, "never": None})
    assert dict(views.entries("costs", LIVE)) == {"b": b"4", "ü/ key": b"3"}


def test_ten_thousand_entries_are_written_and_taken_away_in_one_save(views: ConsumerStore) -> None:
    record = claimed(views)
    many: dict[str, bytes | None] = {f"key-{number}": b"%d" % number for number in range(10_000)}
    assert views.save(record, changes=many).current
    assert dict(views.entries("costs", LIVE)) == many
    gone = {key: None for key in many if not key.endswith("7")}
    assert views.save(evolve(record, revision=1), changes=gone).current
    assert sorted(dict(views.entries("costs", LIVE))) == sorted(key for key in many if key.endswith("7"))


def test_a_save_that_continues_another_revision_is_not_written(views: ConsumerStore) -> None:
    record = claimed(views)
    views.save(record, blob=b"one")
    views.save(evolve(record, revision=1, cursor=THERE), blob=b"two")
    for revision in (0, 1, 3):
        assert views.save(evolve(record, revision=revision), blob=b"three", changes={"a": b"1"}) == Saved(
            False, 2, None
        )
    assert views.blob("costs", LIVE) == b"two"
    assert [(r.name, r.cursor) for r in views.records()] == [("costs", THERE)]


def test_saving_the_record_alone_leaves_the_view(views: ConsumerStore) -> None:
    record = claimed(views)
    views.save(record, blob=b"one")
    views.save(evolve(record, revision=1, status="parked"))
    assert views.blob("costs", LIVE) == b"one"


@pytest.mark.parametrize("place", ["valkey", "redis"], indirect=True)
def test_a_save_that_is_sent_twice_is_one(views: ConsumerStore) -> None:
    """The answer to the first was lost: the second gets the same one."""
    record = evolve(claimed(views), updated_at=5)
    assert views.save(record, blob=b"one") == views.save(record, blob=b"one") == Saved(True, 1, None)


def test_of_two_writers_at_once_one_writes(views: ConsumerStore) -> None:
    outcomes: list[str] = []
    together = threading.Barrier(4)

    def attach_and_save(owner: str) -> None:
        together.wait()
        record = claimed(views, owner=owner)
        together.wait()
        try:
            outcomes.append("saved" if views.save(record, blob=owner.encode()).current else "stale")
        except Fenced:
            outcomes.append("fenced")

    threads = [threading.Thread(target=attach_and_save, args=(f"owner-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["fenced"] * 3 + ["saved"]
    live = views.find("costs").live
    assert live is not None
    assert views.blob("costs", LIVE) == live.token.partition(":")[2].encode()


# -- discarding --------------------------------------------------------------------------------------------------------


def test_a_view_that_is_discarded_is_gone_and_the_live_one_stays(views: ConsumerStore) -> None:
    live, beside = claimed(views), claimed(views, fresh(slot=NEXT))
    views.save(live, blob=b"live")
    views.save(beside, blob=b"half")
    assert views.discard(beside)
    assert (views.find("costs").live, views.find("costs").next) == (evolve(live, revision=1), None)
    assert (views.blob("costs", LIVE), views.blob("costs", NEXT)) == (b"live", None)
    assert not views.discard(beside), "twice is once"


def test_a_view_that_another_has_claimed_is_not_discarded(views: ConsumerStore) -> None:
    first = claimed(views, fresh(slot=NEXT))
    second = claimed(views, fresh(slot=NEXT), "two")
    assert not views.discard(first)
    assert views.find("costs").next == second


# -- switching ---------------------------------------------------------------------------------------------------------


def test_the_view_that_was_built_takes_the_place_of_the_live_one(views: ConsumerStore) -> None:
    old = claimed(views)
    views.save(old, blob=b"old")
    beside = claimed(views, fresh(slot=NEXT, version=2), "two")
    views.save(evolve(beside, cursor=THERE), blob=b"new")
    assert views.blob("costs", LIVE) == b"old"
    live = views.switch(evolve(beside, cursor=THERE, revision=1))
    assert (live.slot, live.version, live.cursor, live.token) == (LIVE, 2, THERE, "2:two")
    stored = views.find("costs")
    assert (stored.live, stored.next) == (live, None)
    assert (views.blob("costs", LIVE), views.blob("costs", NEXT)) == (b"new", None)
    with pytest.raises(Fenced):
        views.save(evolve(old, revision=1), blob=b"late")
    assert views.save(live, blob=b"newer").current


def test_entries_are_switched_as_a_whole(views: ConsumerStore) -> None:
    views.save(claimed(views), changes={"old": b"1", "both": b"1"})
    beside = claimed(views, fresh(slot=NEXT))
    views.save(beside, changes={"both": b"2"})
    views.switch(evolve(beside, revision=1))
    assert dict(views.entries("costs", LIVE)) == {"both": b"2"}


def test_an_empty_view_can_take_the_place_of_another(views: ConsumerStore) -> None:
    views.save(claimed(views), changes={"old": b"1"})
    views.switch(claimed(views, fresh(slot=NEXT)))
    assert dict(views.entries("costs", LIVE)) == {}


def test_a_switch_of_one_who_was_fenced_changes_nothing(views: ConsumerStore) -> None:
    views.save(claimed(views), blob=b"old")
    beside = claimed(views, fresh(slot=NEXT))
    claimed(views, fresh(slot=NEXT), "two")
    with pytest.raises(Fenced):
        views.switch(beside)
    assert views.blob("costs", LIVE) == b"old"


@pytest.mark.parametrize("place", ["valkey", "redis"], indirect=True)
def test_a_switch_that_is_asked_for_twice_is_one(views: ConsumerStore) -> None:
    beside = claimed(views, fresh(slot=NEXT))
    assert views.switch(beside) == views.switch(beside)


# -- wishes and removal ------------------------------------------------------------------------------------------------


def test_a_wish_comes_back_with_every_save_until_it_is_done(views: ConsumerStore) -> None:
    record, wish = claimed(views), ConsumerRequest("w-1", "skip", "acme/alice", 7)
    assert views.request("costs", wish)
    assert views.find("costs").request == wish
    assert views.save(record) == Saved(True, 1, wish)
    assert views.save(evolve(record, revision=1), done=wish) == Saved(True, 2, None)
    assert views.find("costs").request is None


def test_a_newer_wish_is_not_taken_for_the_one_that_is_done(views: ConsumerStore) -> None:
    record, older, newer = claimed(views), ConsumerRequest("w-1", "retry"), ConsumerRequest("w-2", "rebuild")
    views.request("costs", older)
    views.request("costs", newer)
    assert views.save(record, done=older).request == newer
    assert views.find("costs").request == newer


def test_a_wish_replaces_the_one_it_was_made_for_and_no_other(views: ConsumerStore) -> None:
    claimed(views)
    first, second = ConsumerRequest("w-1", "rebuild", "acme/alice"), ConsumerRequest("w-2", "rebuild", "")
    assert not views.replace_request("costs", first, second)
    assert views.replace_request("costs", None, first)
    assert not views.replace_request("costs", None, second)
    assert not views.replace_request("costs", evolve(first, agent=None), second)
    assert views.find("costs").request == first
    assert views.replace_request("costs", first, second)
    assert views.find("costs").request == second
    assert not views.replace_request("nobody", None, first)


def test_nothing_can_be_wished_of_a_consumer_that_is_not_there(views: ConsumerStore) -> None:
    assert not views.request("costs", ConsumerRequest("w-1", "retry"))
    assert views.find("costs").request is None


def test_what_is_no_wish_is_none() -> None:
    assert [unpack_request(stored) for stored in (b"", b"\xc1", b"\x01", b"\x94\x01\x02\x03\x04")] == [None] * 4


def test_a_consumer_that_is_removed_is_gone_with_its_views(views: ConsumerStore) -> None:
    record, beside = claimed(views), claimed(views, fresh(slot=NEXT))
    claimed(views, fresh("other"))
    views.save(record, blob=b"live")
    views.save(beside, changes={"a": b"1"})
    views.request("costs", ConsumerRequest("w-1", "retry"))
    assert views.remove("costs")
    assert not views.remove("costs")
    assert views.find("costs") == views.find("never")
    assert (views.blob("costs", LIVE), list(views.entries("costs", NEXT))) == (None, [])
    with pytest.raises(Fenced, match="removed"):
        views.save(evolve(record, revision=1))
    with pytest.raises(Fenced):
        views.switch(evolve(beside, revision=1))
    assert [found.name for found in views.records()] == ["other"]


def test_cursors_name_every_view_that_reads(views: ConsumerStore) -> None:
    """Trimming must not pass a view that is being built."""
    live = claimed(views)
    views.save(evolve(live, cursor=THERE))
    claimed(views, fresh(slot=NEXT, version=2))
    claimed(views, fresh("audit"))
    assert [(r.name, r.cursor) for r in views.records()] == [("audit", START), ("costs", THERE), ("costs", START)]


# -- names and bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "-a", "a/b", "a b", "a" * 129, "ä", "a\n", "a:b", "{a}"])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(InvalidMessage):
        check_name(name)


def test_names_do_not_stand_in_keys(server: ServerPlace) -> None:
    log = server.open()
    record = claimed(log.consumer_store(), fresh("secret-name"))
    log.consumer_store().save(record, blob=b"1")
    keys = [key.decode() for key in server.client.scan_iter(f"*{server.namespace}*")]
    assert not [key for key in keys if "secret-name" in key]
    assert all(key.startswith(f"duramen:{{{server.namespace}") for key in keys)


plain_records = st.builds(
    ConsumerRecord,
    name=st.just("costs"),
    slot=st.sampled_from([LIVE, NEXT]),
    kind=st.sampled_from(["whole", "keyed", "sink"]),
    version=st.integers(0, 2**31),
    scope=st.text(max_size=50).filter(lambda text: text.isprintable()),
    cursor=st.builds(
        Cursor,
        st.text("abcdef0123456789", min_size=1),
        st.dictionaries(
            st.integers(0, 98),
            st.builds(
                Mark, st.integers(0, 2**40), st.integers(0, 300), st.just("a/b"), st.integers(0, 2**40), st.binary()
            ),
        ),
    ),
    token=st.just("1:one"),
    revision=st.integers(0, 2**40),
    applied=st.integers(0, 2**40),
    skips=st.lists(st.tuples(st.just("a/b"), st.integers(1, 9))).map(tuple),
)


@pytest.mark.slow
@given(plain_records)
def test_a_record_is_unpacked_as_it_was_packed(record: ConsumerRecord) -> None:
    assert unpack_record("costs", record.slot, pack_record(record)) == record


@given(st.binary(max_size=60) | plain_records.map(pack_record).map(lambda packed: packed[:-1]))
def test_what_is_no_record_is_told_as_such(stored: bytes) -> None:
    with pytest.raises(CorruptEvent):
        unpack_record("costs", LIVE, stored)


@pytest.mark.slow
@settings(max_examples=20)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.none() | st.binary(max_size=5), max_size=6),
        max_size=6,
    )
)
def test_memory_and_server_hold_the_same_entries(valkey_url: str, saves: list[dict[str, bytes | None]]) -> None:
    memory, server = MemoryPlace(), ServerPlace(valkey_url)
    try:
        held = [_after(place, saves) for place in (memory, server)]
        assert held[0] == held[1]
    finally:
        server.close()


def _after(place: Place, saves: list[dict[str, bytes | None]]) -> dict[str, bytes]:
    views, name = place.open().consumer_store(), f"n{uuid4().hex}"
    record = claimed(views, fresh(name))
    for number, changes in enumerate(saves):
        assert views.save(evolve(record, revision=number), changes=changes).current
    return dict(views.entries(name, LIVE))


# -- rights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["hdel", "unlink", "rename"])
def test_who_lacks_a_right_is_refused_before_anything_is_written(
    server: ServerPlace, missing: str, user_without: Callable[[str], str]
) -> None:
    server.open()
    log = RedisLog(pool_of_url(user_without(missing)), namespace=server.namespace)
    try:
        with pytest.raises(NotPermitted, match=missing.upper()):
            log.consumer_store().claim(fresh(), "one")
    finally:
        log.close()
    assert server.open().consumer_store().records() == []


@pytest.fixture
def user_without(server: ServerPlace, request: pytest.FixtureRequest) -> Callable[[str], str]:
    def make(missing: str) -> str:
        name = f"u{uuid4().hex}"
        rules = ["reset", "on", ">pw", "~duramen:*", "&duramen:*", "+@all", f"-{missing}"]
        server.call_each("ACL", "SETUSER", name, *rules)
        request.addfinalizer(lambda: server.call_each("ACL", "DELUSER", name))
        return server.url_of(name)

    return make
