"""Raw events made into a valid stored log, and a stored log read without a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from duramen.events import CorruptEvent, Event, EventRegistry, Limits, MemoryLog
from duramen.events.chain import PLAIN, Chain
from duramen.events.codec import DIGEST_SIZE, NO_DIGEST, Codec, RawEvent, chain
from duramen.events.log import Append, EventLog
from duramen.events.registry import DECLARED
from duramen.events.stored import event_of, raw_events
from duramen.events.trimming import digest_at

__all__ = ["bodies_of", "events_of", "raw_of", "read_items", "sealed", "sealed_bodies", "store_items"]

_FENCE = "1:recorded"
_AT_ONCE = 500


def sealed(raws: Iterable[RawEvent], codec: Codec) -> list[bytes]:
    """Stored items of raw events: encoded, checked to read back, and chained from the first on."""
    return sealed_bodies(codec.encode(raw)[0] for raw in raws)


def sealed_bodies(bodies: Iterable[bytes]) -> list[bytes]:
    """Stored items of bodies, which are not looked into."""
    items: list[bytes] = []
    digest = NO_DIGEST
    for body in bodies:
        digest = chain(digest, body)
        items.append(digest + body)
    return items


def bodies_of(items: Iterable[bytes]) -> list[bytes]:
    """The items without their digests."""
    return [item[DIGEST_SIZE:] for item in items]


def store_items(log: EventLog, agent: str, items: Sequence[bytes], levels: Sequence[int] | None = None) -> None:
    """Append items to the log of a new agent: as they are, or with the digests that its key makes.

    Raises CorruptEvent if the log does not take them.
    """
    items = list(_rechained(items, PLAIN, log.chain, NO_DIGEST))
    partition, at, digest = log.partition_of(agent), 0, NO_DIGEST
    while at < len(items):
        part = list(items[at : at + _AT_ONCE])
        marks = bytes([2] * len(part)) if levels is None else bytes(levels[at : at + _AT_ONCE])
        append = Append(agent, log.log_key(agent), at, digest, _FENCE, part, marks, create=at == 0)
        (answer,) = log.commit(partition, [append])
        if answer.status:
            raise CorruptEvent(
                f"the log refuses events from {at + 1} on ({answer.status.name})", agent=agent, seq=at + 1
            )
        at += len(part)
        digest = part[-1][:DIGEST_SIZE]


def read_items(log: EventLog, agent: str, *, after: int = 0) -> Iterator[bytes]:
    """The items of an agent's log after a seq, in pages: as they are stored, or with digests that need no key.

    Raises what reading raises; an event that is damaged is damaged here, too.
    """
    digest = digest_at(log, agent, after) if log.chain.keyed else None
    return _rechained(_stored_items(log, agent, after), log.chain, PLAIN, digest or NO_DIGEST)


def _stored_items(log: EventLog, agent: str, after: int) -> Iterator[bytes]:
    for page in log.pages(agent, after + 1, None):
        yield from page.items


def _rechained(items: Iterable[bytes], source: Chain, target: Chain, digest: bytes) -> Iterator[bytes]:
    """Items with the digests of another chain; where one is wrong in the chain they come from, it stays wrong."""
    if source.keyed == target.keyed:
        yield from items
        return
    here = there = digest
    for item in items:
        body = item[DIGEST_SIZE:]
        sound = source.digest(here, body) == item[:DIGEST_SIZE]
        here = item[:DIGEST_SIZE]
        there = target.digest(there, body) if sound else here
        yield there + body


def raw_of(agent: str, items: Sequence[bytes], codec: Codec) -> list[tuple[int, RawEvent, bytes]]:
    """Seq, raw fields and digest of each item. Raises CorruptEvent, as reading a log does."""
    log = MemoryLog(partitions=1)
    store_items(log, agent, items)
    return list(raw_events(log, agent, codec)) if items else []


def events_of(agent: str, items: Sequence[bytes], registry: EventRegistry = DECLARED) -> list[Event]:
    """Stored items as today's code reads them. Raises CorruptEvent, UnknownEventType."""
    codec = Codec(Limits())
    return [event_of(agent, seq, raw, digest, registry) for seq, raw, digest in raw_of(agent, items, codec)]
