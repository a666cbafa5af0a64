"""The log in this process's memory: the same answers as the server gives, for unit tests and trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from time import time
from typing import Any
from uuid import uuid4

from attrs import define, evolve, field

import msgpack

from ..codec import NO_DIGEST, DigestChain
from ..errors import CorruptEvent, InvalidMessage
from ..log import (
    Adoption,
    Answer,
    Append,
    Archive,
    Base,
    Claim,
    ConsumerStore,
    ContentCache,
    Entry,
    FeedEntry,
    FeedPage,
    Head,
    Keys,
    LogWriter,
    Notice,
    NoticeStream,
    Page,
    Put,
    ReadAhead,
    Span,
    SpanEvents,
    Status,
    feed_trimmed,
    pages_of,
    partition_of,
    trimmed_further,
)
from ..model import Granularity, Limits
from .archive import MemoryArchive, MemoryParts
from .consumer_store import MemoryConsumerStore
from .notices import MemoryNotices
from .partition import events_to_go, gathered
from .writer import MemoryWriter

__all__ = ["MemoryCache", "MemoryLog", "NoReadAhead"]


@define(eq=False)
class _Partition:
    heads: dict[str, Head] = field(factory=dict[str, Head])
    directory: dict[str, bytes] = field(factory=dict[str, bytes])
    feed: list[FeedEntry] = field(factory=list[FeedEntry])
    base: int = 0
    """Entries trimmed from the feed."""
    marks: dict[int, int] = field(factory=dict[int, int])
    bases: dict[str, Base] = field(factory=dict[str, Base])


class MemoryLog:
    """An `EventLog` of this process, under the same contract suite as `RedisLog`. Gone when the process ends.

    Two systems given one `MemoryLog` behave as two processes on one server. `clock` (seconds) decides when
    checkpoints expire. `listen` is the twin of subscribing to the channels. `integrity_key` is that of `RedisLog`.
    """

    def __init__(
        self,
        *,
        partitions: int = 16,
        limits: Limits | None = None,
        clock: Callable[[], float] = time,
        integrity_key: bytes | None = None,
    ) -> None:
        if type(partitions) is not int or not 1 <= partitions <= 99:
            raise InvalidMessage("a namespace has 1 to 99 partitions", actual=partitions)
        self.chain = DigestChain(integrity_key)
        self._limits = limits or Limits()
        self._clock = clock
        self._keys = Keys("memory")
        self._identity = uuid4().hex
        self._lock = threading.Lock()
        self._partitions = [_Partition() for _ in range(partitions)]
        self._logs: dict[str, list[bytes]] = {}
        self._values: dict[str, tuple[bytes, float]] = {}
        self._embeddings: dict[str, MemoryCache] = {}
        self._listeners: list[Callable[[Notice], None]] = []
        self._views = MemoryConsumerStore()
        self._archive = MemoryArchive(
            MemoryParts(
                self._lock,
                lambda: [agent for part in self._partitions for agent in part.heads],
                lambda agent: self._partitions[self.partition_of(agent)].heads.get(agent),
                lambda agent: self._logs.get(self.log_key(agent), []),
                self._begin,
                self._put,
                self._tell,
            )
        )

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def partitions(self) -> int:
        return len(self._partitions)

    @property
    def archive(self) -> Archive:
        return self._archive

    @property
    def durability(self) -> str:
        return "memory"

    def partition_of(self, agent: str) -> int:
        return partition_of(agent, len(self._partitions))

    def log_key(self, agent: str) -> str:
        return self._keys.log(self.partition_of(agent), agent)

    def snapshot_key(self, agent: str) -> str:
        return self._keys.snapshot(self.partition_of(agent), agent)

    def base_key(self, agent: str) -> str:
        return self._keys.base(self.partition_of(agent), agent)

    def checkpoint_key(self, agent: str, checkpoint_id: str) -> str:
        return self._keys.checkpoint(self.partition_of(agent), agent, checkpoint_id)

    def listen(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Call `listener` for each notice, in the committing thread; what comes back ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # -- writing ---------------------------------------------------------------------------------------------------

    def writer(self) -> LogWriter:
        return MemoryWriter(self.commit)

    def commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        with self._lock:
            part = self._partitions[partition]
            answers = [self._answer(part, append) for append in batch]
            accepted = [a for a, answer in zip(batch, answers, strict=True) if answer.status is Status.COMMITTED]
            notices = self._write(partition, part, [append for append in accepted if append.items])
        self._tell(notices)
        return answers

    def _tell(self, notices: list[Notice]) -> None:
        for notice in notices:
            for listener in list(self._listeners):
                listener(notice)

    def _begin(self, adoption: Adoption, items: list[bytes]) -> list[Notice]:
        """Let an agent come to be with a log that was made elsewhere."""
        agent, partition = adoption.agent, self.partition_of(adoption.agent)
        part = self._partitions[partition]
        if items:
            self._logs[self.log_key(agent)] = items
            part.feed.append(FeedEntry(agent, adoption.base + 1, len(items), adoption.levels))
        part.directory[agent] = adoption.entry
        if adoption.base:
            part.bases[agent] = Base(adoption.base, adoption.before)
        at = adoption.updated_at
        part.heads[agent] = Head(adoption.seq, adoption.base, adoption.digest, adoption.fence, at, at, adoption.largest)
        self._put(adoption.puts)
        bits = adoption.levels if items else 0
        touched = [level for level in Granularity if bits & 1 << level]
        told = [self._notice(partition, part, level, [], entries=1, levels=bits) for level in touched]
        return [evolve(notice, events=None) for notice in told]

    def _answer(self, part: _Partition, append: Append) -> Answer:
        head = part.heads.get(append.agent)
        status = self._check(head, append)
        if head is None or status is Status.COMMITTED:
            return Answer(status)
        return Answer(status, head.seq, head.fence, head.claimed_at)

    def _check(self, head: Head | None, append: Append) -> Status:
        """The same questions, in the same order, as `append.lua`."""
        length = len(self._logs.get(append.log_key, ()))
        if head is None:
            if not append.create:
                return Status.GONE
            return Status.CORRUPT if length else Status.COMMITTED
        otherwise = Status.EXISTS if append.create else None
        if head.fence != append.fence:
            return Status.DUPLICATE if self._holds(head, append) else otherwise or Status.FENCED
        if head.seq == append.expected and not append.create:
            sound = head.digest == append.previous and head.base + length == head.seq
            return Status.COMMITTED if sound else Status.CORRUPT
        if self._holds(head, append):
            return Status.DUPLICATE
        return otherwise or (Status.BEHIND if head.seq < append.expected else Status.CONFLICT)

    def _holds(self, head: Head, append: Append) -> bool:
        seq = append.expected + len(append.items)
        if not append.items or not head.base < seq <= head.seq:
            return False
        at = seq - head.base - 1
        found = self._logs.get(append.log_key, [])[at : at + 1]  # a damaged list can be shorter than its head says
        return bool(found) and found[0][:16] == append.items[-1][:16]

    def _write(self, partition: int, part: _Partition, batch: Sequence[Append]) -> list[Notice]:
        events: dict[int, list[tuple[str, int, list[bytes]]]] = {}
        together = 0
        for append in batch:
            head = part.heads.get(append.agent) or Head(0, 0, NO_DIGEST, append.fence, append.updated_at, 0)
            first = head.seq + 1
            self._logs.setdefault(append.log_key, []).extend(append.items)
            part.heads[append.agent] = evolve(
                head,
                seq=head.seq + len(append.items),
                digest=append.items[-1][:16],
                updated_at=append.updated_at,
            )
            if append.entry is not None:
                part.directory[append.agent] = append.entry
            for level, stretch in groupby(range(len(append.items)), append.levels.__getitem__):
                offsets = list(stretch)
                items = append.items[offsets[0] : offsets[-1] + 1]
                events.setdefault(level, []).append((append.agent, first + offsets[0], items))
            bits = sum(1 << level for level in set(append.levels))
            together |= bits
            part.feed.append(FeedEntry(append.agent, first, len(append.items), bits))
            self._put(append.puts)
        return [
            self._notice(partition, part, level, found, entries=len(batch), levels=together)
            for level, found in events.items()
        ]

    def _put(self, puts: Sequence[Put]) -> None:
        for put in puts:
            expires = self._clock() + put.ttl_ms / 1000 if put.ttl_ms else float("inf")
            self._values[put.key] = (put.value, expires)

    def _notice(
        self,
        partition: int,
        part: _Partition,
        level: int,
        found: list[tuple[str, int, list[bytes]]],
        *,
        entries: int,
        levels: int,
    ) -> Notice:
        previous = part.marks.get(level, 0)
        part.marks[level] = position = part.base + len(part.feed)
        small = sum(len(item) for _, _, items in found for item in items) <= self._limits.notice_bytes
        events = found if small else None
        return Notice(partition, Granularity(level), previous, position, events, position - entries, levels)

    def claim(self, agents: Sequence[str], owner: str, now: int) -> list[Claim | None]:
        with self._lock:
            return [self._claim(agent, owner, now) for agent in agents]

    def _claim(self, agent: str, owner: str, now: int) -> Claim | None:
        heads = self._partitions[self.partition_of(agent)].heads
        head = heads.get(agent)
        if head is None:
            return None
        epoch = int(head.fence.partition(":")[0]) + 1
        heads[agent] = head = evolve(head, fence=f"{epoch}:{owner}", claimed_at=now)
        return Claim(head, len(self._logs.get(self.log_key(agent), ())))

    def trim(self, agent: str, base: Base, snapshot: bytes) -> None:
        with self._lock:
            part = self._partitions[self.partition_of(agent)]
            items = self._logs.get(self.log_key(agent), [])
            count = events_to_go(agent, part.heads.get(agent), part.bases.get(agent), items, base)
            if count:
                self._values[self.base_key(agent)] = (snapshot, float("inf"))
                part.bases[agent] = base
                del items[:count]
                part.heads[agent] = evolve(part.heads[agent], base=base.seq)

    def trim_feed(self, partition: int, position: int) -> int:
        with self._lock:
            part = self._partitions[partition]
            if part.base < position <= part.base + len(part.feed):
                del part.feed[: position - part.base]
                part.base = position
            return part.base

    # -- reading ---------------------------------------------------------------------------------------------------

    def head(self, agent: str) -> Head | None:
        with self._lock:
            return self._partitions[self.partition_of(agent)].heads.get(agent)

    def read(self, agent: str, from_seq: int, limit: int) -> Page | None:
        with self._lock:
            head = self._partitions[self.partition_of(agent)].heads.get(agent)
            if head is None:
                return None
            if from_seq <= head.base:
                raise trimmed_further(agent, from_seq - 1, head.base)
            items = self._logs.get(self.log_key(agent), [])
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
            return self._partitions[self.partition_of(agent)].bases.get(agent)

    def pages(self, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        return pages_of(agent, from_seq, to_seq, partial(self.read, agent))

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._lock:
            return [self._value(key) for key in keys]

    def exists(self, keys: Sequence[str]) -> list[bool]:
        with self._lock:
            return [self._value(key) is not None for key in keys]

    def _value(self, key: str) -> bytes | None:
        value, expires = self._values.get(key, (None, 0.0))
        if value is not None and expires <= self._clock():
            del self._values[key]
            return None
        return value

    def directory(self) -> Iterator[Entry]:
        for part in self._partitions:
            with self._lock:
                heads, lines = dict(part.heads), dict(part.directory)
            for agent, head in heads.items():
                line: list[Any] = msgpack.unpackb(lines[agent]) if agent in lines else ["running", None, None]
                yield Entry(agent, head, *line)

    def feed(self, partition: int, position: int, limit: int) -> list[FeedEntry]:
        return self.feed_page(partition, position, limit).entries

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        with self._lock:
            part = self._partitions[partition]
            start = position - part.base
            if start < 0:
                raise feed_trimmed(partition, position, part.base)
            entries = part.feed[start : start + max(1, limit)]
            fields = [value for e in entries for value in (e.agent, e.first_seq, e.count, e.levels)]
            return FeedPage(fields, part.base + len(part.feed))

    def feed_pages(self, asked: Sequence[tuple[int, int, int]]) -> list[FeedPage]:
        return [self.feed_page(*one) for one in asked]

    def gather_all(self, asked: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        return [self.gather(partition, spans, most_bytes) for partition, spans in asked]

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        part = self._partitions[partition]
        with self._lock:
            return gathered(spans, part.heads, part.bases, lambda a: self._logs.get(self.log_key(a), []), most_bytes)

    def ahead(self, partition: int) -> ReadAhead:
        return NoReadAhead()

    def lend(self, count: int) -> None:
        return None

    def positions(self) -> list[int]:
        with self._lock:
            return [part.base + len(part.feed) for part in self._partitions]

    def notices(self, *, events: bool = False) -> NoticeStream:
        return MemoryNotices(self.listen, events=events)

    def embeddings(self, model: str) -> ContentCache:
        return self._embeddings.setdefault(model, MemoryCache())

    def consumer_store(self) -> ConsumerStore:
        return self._views

    def close(self) -> None:
        """Nothing to let go of: the log lives as long as the object, so that a system can be opened on it again."""


class NoReadAhead:
    """For a log that needs no time."""

    def ask(self, spans: Sequence[Span], position: int, limit: int, most_bytes: int) -> None: ...

    def go_on(self) -> None: ...

    def hurry(self) -> None: ...

    def take(self) -> tuple[list[SpanEvents | None], FeedPage | None]:
        return [], None

    def close(self) -> None: ...


class MemoryCache:
    """A cache in this process's memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[bytes, bytes] = {}

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(field) for field in fields]

    def store(self, values: Mapping[bytes, bytes]) -> None:
        with self._lock:
            self._values.update(values)
