"""The log in this process's memory, which answers as a server does: for unit tests and trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import time
from uuid import uuid4

from attrs import evolve

from ..errors import CorruptEvent
from ..log import (
    Answer,
    Append,
    Base,
    Claim,
    ConsumerStore,
    ContentCache,
    Entry,
    FeedPage,
    FeedRequest,
    Head,
    LogBase,
    LogWriter,
    Notice,
    NoticeStream,
    Page,
    Span,
    SpanEvents,
    feed_damaged,
    feed_trimmed,
    trimmed_further,
    unpack_line,
)
from ..model import Limits
from .appends import MemoryAppends
from .archive import MemoryArchive
from .consumer_store import MemoryConsumerStore
from .content_cache import MemoryCache
from .content_store import MemoryContentStore
from .host_store import MemoryHostStore
from .notices import MemoryNotices
from .output_store import MemoryOutputStore
from .partition import count_to_trim, gather_spans
from .storage import MemoryStorage
from .writer import MemoryWriter


class MemoryLog(LogBase):
    """An `EventLog` in this process, under the same contract suite as `RedisLog`. Gone when the process ends.

    Two systems given one `MemoryLog` behave as two processes on one server. `clock` (seconds) decides when
    checkpoints expire. `integrity_key` is that of `RedisLog`.
    """

    def __init__(
        self,
        *,
        partitions: int = 16,
        limits: Limits | None = None,
        clock: Callable[[], float] = time,
        integrity_key: bytes | None = None,
    ) -> None:
        super().__init__("memory", partitions, integrity_key)
        self.identity = uuid4().hex
        self.partitions = partitions
        self._limits = limits or Limits()
        self._storage = storage = MemoryStorage(partitions, self._keys, self._limits, clock)
        self._lock = storage.lock
        self.contents = MemoryContentStore(storage)
        self._appends = MemoryAppends(storage, self.contents)
        self._embeddings: dict[str, MemoryCache] = {}
        self._consumers = MemoryConsumerStore()
        self.outputs = MemoryOutputStore(clock)
        self.hosts = MemoryHostStore(storage, secret=self.chain.message_secret(self.identity))
        self.archive = MemoryArchive(storage, self.outputs, self.contents)

    def listen(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Call `listener` for each notice, in the committing thread, until the returned function is called."""
        self._storage.listeners.append(listener)
        return lambda: self._storage.listeners.remove(listener)

    # -- writing ---------------------------------------------------------------------------------------------------

    def writer(self) -> LogWriter:
        return MemoryWriter(self._commit)

    def _commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        return self._appends.commit(partition, batch)

    def claim(self, agents: Sequence[str], owner: str, now: int) -> list[Claim | None]:
        with self._lock:
            return [self._claim(agent, owner, now) for agent in agents]

    def _claim(self, agent: str, owner: str, now: int) -> Claim | None:
        heads = self._storage.part_of(agent).heads
        head = heads.get(agent)
        if head is None:
            return None
        epoch = int(head.fence.partition(":")[0]) + 1
        heads[agent] = head = evolve(head, fence=f"{epoch}:{owner}", claimed_at=now)
        return Claim(head, len(self._storage.items(agent)))

    def trim(self, agent: str, base: Base, snapshot: bytes) -> None:
        with self._lock:
            part = self._storage.part_of(agent)
            items = self._storage.items(agent)
            count = count_to_trim(agent, part.heads.get(agent), part.bases.get(agent), items, base)
            if count:
                self._storage.values[self.base_key(agent)] = (snapshot, float("inf"))
                part.bases[agent] = base
                del items[:count]
                part.heads[agent] = evolve(part.heads[agent], base=base.seq)

    def trim_feed(self, partition: int, position: int) -> int:
        with self._lock:
            part = self._storage.parts[partition]
            if not part.is_sound:
                raise feed_damaged(partition, part.end, part.base + len(part.feed))
            if part.base < position <= part.end:
                del part.feed[: position - part.base]
                part.base = position
            return part.base

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, agent: str, from_seq: int, limit: int, *, seen: Head | None = None) -> Page | None:
        with self._lock:
            head = self._storage.part_of(agent).heads.get(agent)
            if head is None:
                return None
            if from_seq <= head.base:
                raise trimmed_further(agent, from_seq - 1, head.base)
            items = self._storage.items(agent)
            if head.base + len(items) != head.seq:
                raise CorruptEvent(
                    f"the log of {agent} does not fit its head",
                    agent=agent,
                    expected=head.seq,
                    actual=head.base + len(items),
                )
            at = from_seq - head.base - 1
            page: list[bytes] = []
            size = 0
            for item in items[at : at + max(1, min(limit, self._limits.page_events))]:
                page.append(item)
                size += len(item)
                if size >= self._limits.page_bytes:
                    break
            return Page(head, from_seq, page)

    def base(self, agent: str) -> Base | None:
        with self._lock:
            return self._storage.part_of(agent).bases.get(agent)

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._lock:
            return [self._storage.value(key) for key in keys]

    def exists(self, keys: Sequence[str]) -> list[bool]:
        with self._lock:
            return [self._storage.value(key) is not None for key in keys]

    def directory(self, partition: int | None = None, *, metadata: Mapping[str, str] | None = None) -> Iterator[Entry]:
        for part in self._storage.parts if partition is None else (self._storage.parts[partition],):
            with self._lock:
                heads, lines = dict(part.heads), dict(part.directory)
            for agent, head in heads.items():
                yield Entry(agent, head, *unpack_line(lines.get(agent)))

    def feed_pages(self, requests: Sequence[FeedRequest]) -> list[FeedPage]:
        return [self._feed_page(*request) for request in requests]

    def _feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        with self._lock:
            part = self._storage.parts[partition]
            start = position - part.base
            if start < 0:
                raise feed_trimmed(partition, position, part.base)
            if not part.is_sound:
                raise feed_damaged(partition, part.end, part.base + len(part.feed))
            entries = part.feed[start : start + max(1, limit)]
            fields = [value for e in entries for value in (e.agent, e.first_seq, e.count, e.levels)]
            return FeedPage(fields, part.base + len(part.feed), part.erasures)

    def gather_all(self, requests: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        return [self._gather(partition, spans, most_bytes) for partition, spans in requests]

    def _gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        part = self._storage.parts[partition]
        with self._lock:
            found = gather_spans(spans, part.heads, part.bases, self._storage.items, most_bytes)
            for one in found:
                one.erasures = part.erasures
            return found

    def erased_until(self, partition: int, agent: str) -> int:
        with self._lock:
            return self._storage.parts[partition].erased.get(agent, -1)

    def erased_agents(self, partition: int, agents: Sequence[str]) -> dict[str, int]:
        with self._lock:
            erased = self._storage.parts[partition].erased
            return {agent: erased[agent] for agent in agents if agent in erased}

    def erasures(self, partitions: Sequence[int]) -> list[int]:
        with self._lock:
            return [self._storage.parts[partition].erasures for partition in partitions]

    def positions(self) -> list[int]:
        with self._lock:
            # A damaged feed ends after everything, so that its readers read on, and find out.
            return [
                part.end if part.is_sound else max(part.end, part.base + len(part.feed)) + 1
                for part in self._storage.parts
            ]

    def notices(self, *, events: bool = False) -> NoticeStream:
        return MemoryNotices(self.listen, events=events)

    def embeddings(self, model: str) -> ContentCache:
        return self._embeddings.setdefault(model, MemoryCache())

    def drop_vectors(self, texts: Sequence[bytes]) -> None:
        for cache in list(self._embeddings.values()):
            cache.drop(texts)

    def consumer_store(self) -> ConsumerStore:
        return self._consumers

    def close(self) -> None:
        """Does nothing: the log lives as long as the object, so that a system can be opened on it again."""
