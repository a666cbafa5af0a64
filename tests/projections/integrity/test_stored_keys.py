"""Damage to any stored key is found: to feeds, heads, directories, snapshots, episodes and views of consumers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import msgpack
from contracts.places import ServerPlace
from duramen.actors import AgentSystem, Settings
from duramen.events import Event, EventRegistry
from duramen.events.log.keys import Keys
from duramen.projections import KeyedProjection, Projection
from duramen.projections.integrity.damage import Kind

ALICE = "acme/alice"
BOB = "acme/bob"
TRIMMED = "acme/trimmed"


class Count(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + 1


class ByAgent(KeyedProjection[int]):
    def key(self, event: Event) -> str:
        return event.agent

    def apply(self, entry: int | None, event: Event) -> int:
        return (entry or 0) + 1


class Stored:
    """A namespace with a bit of everything in it, on a server that somebody else may write to."""

    def __init__(self, place: ServerPlace) -> None:
        self.client: redis.Redis = place.client
        self.keys = Keys(place.namespace)
        self.log = place.open(partitions=1)
        self.system = AgentSystem.open(log=self.log, settings=Settings(snapshot_every=20), registry=EventRegistry())
        for path in (ALICE, BOB, TRIMMED):
            agent = self.system.spawn(path)
            for number in range(30):
                agent.set(f"k{number % 9}", number)
                agent.record("note", number)
            agent.pause("lunch", ttl=None)
            agent.resume("lunch")
        for path in (BOB, TRIMMED):
            self.system.agent(path).terminate(task_description="done")
        self.system.spawn(BOB)
        frame = self.client.get(self.log.snapshot_key(ALICE))
        assert isinstance(frame, bytes)
        self.log.archive.keep_keyframe(ALICE, _seq_of(frame), frame)
        with self.system.attach(Count(), name="whole") as whole, self.system.attach(ByAgent(), name="keyed") as keyed:
            last = self.system.agent(BOB).set("last", 1)
            whole.wait_for(last, timeout=20)
            keyed.wait_for(last, timeout=20)
        assert self.system.trim(TRIMMED, keep_events=2).removed

    def heads(self) -> str:
        return self.keys.heads(0)

    def feed(self) -> str:
        return self.keys.feed(0)

    def state(self) -> dict[bytes, bytes]:
        """All keys, as the server dumps them."""
        names = self.client.scan_iter(f"{self.keys.namespace[:-1]}*")
        return {name: self.client.dump(name) or b"" for name in names}

    def restore(self, state: dict[bytes, bytes]) -> None:
        for name in self.client.scan_iter(f"{self.keys.namespace[:-1]}*"):
            if name not in state:
                self.client.delete(name)
        for name, dumped in state.items():
            self.client.restore(name, 0, dumped, replace=True)


def _seq_of(stored: bytes) -> int:
    seq: int = msgpack.unpackb(stored[16:], strict_map_key=False, ext_hook=lambda *_: None)[2]
    return seq


@pytest.fixture(scope="module", params=["valkey", "redis"])
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    place = ServerPlace(request.getfixturevalue(f"{request.param}_url"))
    found = Stored(place)
    yield found
    found.system.close()
    place.close()


def _entry(stored: Stored, at: int, **changes: Any) -> None:
    entry = msgpack.unpackb(stored.client.lindex(stored.feed(), at))
    names = ("agent", "first", "count", "levels")
    changed = [changes.get(name, value) for name, value in zip(names, entry, strict=True)]
    stored.client.lset(stored.feed(), at, msgpack.packb(changed))


def _flip(stored: Stored, key: str) -> None:
    value = stored.client.get(key)
    assert isinstance(value, bytes), key
    stored.client.set(key, value[:-1] + bytes([value[-1] ^ 1]))


def _flip_field(stored: Stored, key: str, field: Any) -> None:
    value = stored.client.hget(key, field)
    assert isinstance(value, bytes), key
    stored.client.hset(key, field, value[:-1] + bytes([value[-1] ^ 1]))


def _first_field(stored: Stored, key: str) -> Any:
    return next(iter(stored.client.hkeys(key)))


DAMAGES: dict[str, tuple[Kind, Callable[[Stored], Any]]] = {
    "feed deleted": (Kind.FEED, lambda s: s.client.delete(s.feed())),
    "feed popped at its beginning": (Kind.FEED, lambda s: s.client.lpop(s.feed())),
    "feed popped at its end": (Kind.FEED, lambda s: s.client.rpop(s.feed())),
    "feed trimmed": (Kind.FEED, lambda s: s.client.ltrim(s.feed(), 5, -1)),
    "feed longer": (Kind.FEED, lambda s: s.client.rpush(s.feed(), s.client.lindex(s.feed(), 0))),
    "feed of another type": (Kind.FEED, lambda s: (s.client.delete(s.feed()), s.client.set(s.feed(), b"x"))),
    "entry of other bytes": (Kind.FEED, lambda s: s.client.lset(s.feed(), 3, b"\xc1")),
    "entry of another agent": (Kind.FEED, lambda s: _entry(s, 3, agent=BOB)),
    "entry of a stranger": (Kind.HEAD, lambda s: _entry(s, 0, agent="acme/stranger")),
    "entry of another seq": (Kind.FEED, lambda s: _entry(s, 3, first=7)),
    "entry of more events": (Kind.FEED, lambda s: _entry(s, 3, count=2)),
    "entry of other levels": (Kind.FEED, lambda s: _entry(s, 3, levels=2)),
    "entry twice": (Kind.FEED, lambda s: s.client.lset(s.feed(), 3, s.client.lindex(s.feed(), 4))),
    "base of the feed": (Kind.FEED, lambda s: s.client.hset(s.heads(), "base", 7)),
    "base of the feed no number": (Kind.FEED, lambda s: s.client.hset(s.heads(), "base", "seven")),
    "mark of a level": (Kind.FEED, lambda s: s.client.hset(s.heads(), "3", 1)),
    "mark of a level deleted": (Kind.FEED, lambda s: s.client.hdel(s.heads(), "1")),
    "mark of a level ahead": (Kind.FEED, lambda s: s.client.hset(s.heads(), "2", 10_000)),
    "head damaged": (Kind.HEAD, lambda s: s.client.hset(s.heads(), ALICE, b"junk")),
    "head deleted": (Kind.HEAD, lambda s: s.client.hdel(s.heads(), ALICE)),
    "heads deleted": (Kind.HEAD, lambda s: s.client.delete(s.heads())),
    "log deleted": (Kind.MISSING, lambda s: s.client.delete(s.log.log_key(ALICE))),
    "directory deleted": (Kind.DIRECTORY, lambda s: s.client.delete(s.keys.directory(0))),
    "line deleted": (Kind.DIRECTORY, lambda s: s.client.hdel(s.keys.directory(0), ALICE)),
    "line damaged": (Kind.DIRECTORY, lambda s: _flip_field(s, s.keys.directory(0), ALICE)),
    "line of a stranger": (Kind.HEAD, lambda s: s.client.hset(s.keys.directory(0), "acme/stranger", b"x")),
    "snapshot": (Kind.SNAPSHOT, lambda s: _flip(s, s.log.snapshot_key(ALICE))),
    "snapshot of another agent": (
        Kind.SNAPSHOT,
        lambda s: s.client.copy(s.log.snapshot_key(BOB), s.log.snapshot_key(ALICE), replace=True),
    ),
    "checkpoint": (Kind.SNAPSHOT, lambda s: _flip(s, s.log.checkpoint_key(ALICE, "lunch"))),
    "checkpoint deleted": (Kind.SNAPSHOT, lambda s: s.client.delete(s.log.checkpoint_key(ALICE, "lunch"))),
    "checkpoint of another seq": (
        Kind.SNAPSHOT,
        lambda s: s.client.copy(s.log.snapshot_key(ALICE), s.log.checkpoint_key(ALICE, "lunch"), replace=True),
    ),
    "keyframe": (
        Kind.SNAPSHOT,
        lambda s: _flip_field(s, s.keys.keyframes(0, ALICE), _first_field(s, s.keys.keyframes(0, ALICE))),
    ),
    "base": (Kind.SNAPSHOT, lambda s: _flip(s, s.log.base_key(TRIMMED))),
    "base deleted": (Kind.SNAPSHOT, lambda s: s.client.delete(s.log.base_key(TRIMMED))),
    "bases deleted": (Kind.SNAPSHOT, lambda s: s.client.delete(s.keys.bases(0))),
    "episode damaged": (Kind.EPISODE, lambda s: s.client.lset(s.keys.episodes(0), 0, b"x")),
    "episodes deleted": (Kind.EPISODE, lambda s: s.client.delete(s.keys.episodes(0))),
    "episode popped": (Kind.EPISODE, lambda s: s.client.lpop(s.keys.episodes(0))),
    "whole view": (Kind.VIEW, lambda s: _flip(s, s.keys.view("whole", "live"))),
    "keyed view": (Kind.VIEW, lambda s: s.client.hset(s.keys.view("keyed", "live"), "acme", b"\xc1")),
    "record of a consumer": (Kind.VIEW, lambda s: s.client.hset(s.keys.views, "live:whole", b"junk")),
}


def test_what_nobody_has_touched_is_whole(stored: Stored) -> None:
    report = stored.system.verify()
    assert report.ok, str(report)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_of_any_key_is_found_and_named(stored: Stored, name: str) -> None:
    kind, damage = DAMAGES[name]
    whole = stored.state()
    damage(stored)
    assert stored.state() != whole, "something was damaged"
    try:
        report = stored.system.verify()
        assert not report.ok
        assert kind in {problem.kind for problem in report.problems}, str(report)
        assert all(str(problem) and problem.as_data() for problem in report.problems)
    finally:
        stored.restore(whole)
    again = stored.system.verify()
    assert again.ok, str(again)


@pytest.mark.slow
def test_a_namespace_that_is_written_to_trimmed_and_imported_into_meanwhile_is_whole(stored: Stored) -> None:
    ended, system = threading.Event(), stored.system

    def write() -> None:
        number = 0
        while not ended.is_set():
            agent = system.spawn(f"busy/{number}")
            agent.set("a", 1)
            agent.pause("p", ttl=None)
            agent.resume("p")
            agent.terminate()
            if number % 5 == 0:
                system.fork(ALICE, to=f"busy/fork-{number}")
                system.trim(f"busy/{number}", keep_events=1)
            number += 1

    writer = threading.Thread(target=write, name="duramen-test-writer")
    writer.start()
    try:
        for _ in range(5):
            report = system.verify()
            assert report.ok, str(report)
    finally:
        ended.set()
        writer.join()
