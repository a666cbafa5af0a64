"""Makes stored items of raw events, chained by their digests, and reads stored items without a server."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

from duramen.events import CorruptEvent, Event, EventRegistry, Limits, MemoryLog
from duramen.events.codec import DIGEST_SIZE, NO_DIGEST, PLAIN, Codec, DigestChain, RawEvent, build_event, chain
from duramen.events.log import Append, EventLog, digest_at, raw_events
from duramen.events.model import DECLARED

_FENCE = "1:recorded"
_AT_ONCE = 500


def seal_events(raws: Iterable[RawEvent], codec: Codec) -> list[bytes]:
    """Stored items of raw events: encoded, read back, and chained from the first on."""
    return chain_bodies(codec.encode(raw)[0] for raw in raws)


def chain_bodies(bodies: Iterable[bytes]) -> list[bytes]:
    """Stored items of bodies, which are not decoded."""
    items: list[bytes] = []
    digest = NO_DIGEST
    for body in bodies:
        digest = chain(digest, body)
        items.append(digest + body)
    return items


def strip_digests(items: Iterable[bytes]) -> list[bytes]:
    """The items without their digests."""
    return [item[DIGEST_SIZE:] for item in items]


def store_items(log: EventLog, agent: str, items: Sequence[bytes], levels: Sequence[int] | None = None) -> None:
    """Append items to the log of a new agent, with digests of the log's key where it has one.

    Raises CorruptEvent if the log refuses them.
    """
    items = _Rechaining(PLAIN, log.chain, NO_DIGEST).rechain(list(items))
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
    """The items of an agent's log after a seq, read in pages, with digests that need no key.

    Raises what reading raises. A damaged event is returned damaged.
    """
    for items in read_pages(log, agent, after=after):
        yield from items


def read_pages(log: EventLog, agent: str, *, after: int = 0, to_seq: int | None = None) -> Generator[list[bytes]]:
    """As `read_items`, a page of the log at a time, up to `to_seq` if given."""
    digest = digest_at(log, agent, after) if log.chain.is_keyed else None
    rechain = _Rechaining(log.chain, PLAIN, digest or NO_DIGEST)
    for page in log.pages(agent, after + 1, to_seq):
        yield rechain.rechain(page.items)


class _Rechaining:
    """Replaces the digests of items by those of another chain; a wrong digest stays wrong."""

    def __init__(self, source: DigestChain, target: DigestChain, digest: bytes) -> None:
        self._source, self._target = source, target
        self._here = self._there = digest

    def rechain(self, items: list[bytes]) -> list[bytes]:
        """Rechain the next items."""
        source, target = self._source, self._target
        return items if source.is_keyed == target.is_keyed else [self._rechained(item) for item in items]

    def _rechained(self, item: bytes) -> bytes:
        body = item[DIGEST_SIZE:]
        sound = self._source.digest(self._here, body) == item[:DIGEST_SIZE]
        self._here = item[:DIGEST_SIZE]
        self._there = self._target.digest(self._there, body) if sound else self._here
        return self._there + body


def read_raws(agent: str, items: Sequence[bytes], codec: Codec) -> list[tuple[int, RawEvent, bytes]]:
    """Seq, raw fields and digest of each item. Raises CorruptEvent as reading a log does."""
    log = MemoryLog(partitions=1)
    store_items(log, agent, items)
    return list(raw_events(log, agent, codec)) if items else []


def events_of(agent: str, items: Sequence[bytes], registry: EventRegistry = DECLARED) -> list[Event]:
    """The events of stored items, as today's code reads them. Raises CorruptEvent, UnknownEventType."""
    codec = Codec(Limits())
    return [build_event(agent, seq, raw, digest, registry) for seq, raw, digest in read_raws(agent, items, codec)]
