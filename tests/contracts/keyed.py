"""Logs with an integrity key, and what who holds the database, but not the key, can do to them."""

from __future__ import annotations

from attrs import evolve

from contracts.places import MemoryPlace, Place, ServerPlace
from duramen.actors import AgentSystem, Settings
from duramen.events import Limits, MemoryLog
from duramen.events.codec.digest_chain import PLAIN
from duramen.events.codec.event_codec import DIGEST_SIZE, NO_DIGEST, Codec
from duramen.events.log.event_log import EventLog
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog

__all__ = ["ALICE", "CODEC", "EVERY_SECOND", "KEY", "LIMITS", "OTHER", "forged", "lie", "lived", "log_of", "rewritten"]

KEY = bytes(range(32))
OTHER = KEY[::-1]
ALICE = "acme/alice"
LIMITS = Limits()
CODEC = Codec(LIMITS)
EVERY_SECOND = Settings(snapshot_every=2)


def log_of(place: Place, key: bytes | None) -> EventLog:
    """The log of a place, with this key or without one."""
    if isinstance(place, MemoryPlace):
        place._log = place._log or MemoryLog(clock=lambda: place.now, integrity_key=key)
        return place._log
    assert isinstance(place, ServerPlace)
    log = RedisLog(pool_of_url(place.url), namespace=place.namespace, integrity_key=key)
    place._opened.append(log)
    return log


def lived(log: EventLog, settings: Settings | None = None) -> None:
    """Alice has a goal, a checkpoint in which she had another one, and a first event at 1."""
    with AgentSystem.open(log=log, settings=settings) as system:
        alice = system.spawn(ALICE, session_id="s-1", initial_state={"creed": "honest"})
        alice.set("goal", "tell the truth")
        alice.pause("before", ttl=None)
        alice.resume("before")
        alice.set("goal", "be brief")


def forged(stored: bytes, old: str, new: str) -> bytes:
    """An event's bytes that say something else; its digest is that of before."""
    fields = CODEC.decode(stored[DIGEST_SIZE:])
    assert fields[4]["value"] == old
    fields[4] = {**fields[4], "value": new}
    return stored[:DIGEST_SIZE] + CODEC.pack(fields)


def rewritten(place: Place, log: EventLog, from_seq: int, items: list[bytes]) -> None:
    """What who holds the database can do: all digests from a seq on made anew, and the head to go with them."""
    previous = items[from_seq - 2][:DIGEST_SIZE] if from_seq > 1 else NO_DIGEST
    anew = items[: from_seq - 1]
    for item in items[from_seq - 1 :]:
        previous = PLAIN.digest(previous, item[DIGEST_SIZE:])
        anew.append(previous + item[DIGEST_SIZE:])
    place.keep(log, ALICE, anew)
    head = log.head(ALICE)
    assert head is not None
    place.write_head(log, ALICE, evolve(head, seq=len(anew), digest=previous, largest=0))


def lie(place: Place, log: EventLog, from_seq: int) -> None:
    items = place.items(log, ALICE)
    rewritten(place, log, from_seq, [items[0], forged(items[1], "tell the truth", "lie"), *items[2:]])
