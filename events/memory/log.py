"""The log in this process's memory, which answers as a server does: for unit tests and trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from time import time
from typing import Final
from uuid import uuid4

from attrs import evolve

import msgpack

from ..codec import NO_DIGEST
from ..errors import CorruptEvent
from ..log import (
    ADD_TO_LIST,
    NOTHING_UNFINISHED,
    Adoption,
    Answer,
    Append,
    Base,
    Claim,
    ConsumerStore,
    ContentCache,
    Entry,
    FeedEntry,
    FeedPage,
    FeedRequest,
    Head,
    LogBase,
    LogWriter,
    Notice,
    NoticeStream,
    Owner,
    Page,
    Put,
    RawPartition,
    Span,
    SpanEvents,
    Status,
    feed_damaged,
    feed_trimmed,
    owner_of,
    root_of,
    trimmed_further,
    unpack_line,
)
from ..logging import get_logger, raised_at
from ..model import Granularity, Limits
from .archive import MemoryArchive, MemoryParts
from .consumer_store import MemoryConsumerStore
from .host_store import MemoryHostStore
from .notices import MemoryNotices
from .output_store import MemoryOutputStore
from .partition import Partition, count_to_trim, gather_spans
from .writer import MemoryWriter

_COMMITTED: Final = Answer(Status.COMMITTED)
_GRANULARITIES: Final[dict[int, Granularity]] = {int(level): level for level in Granularity}
"""By number. Calling the enum takes ten times as long."""


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
        self._clock = clock
        self._lock = threading.Lock()
        self._parts = [Partition() for _ in range(partitions)]
        self._logs: dict[str, list[bytes]] = {}
        self._values: dict[str, tuple[bytes, float]] = {}
        self._lists: dict[str, list[bytes]] = {}
        self._embeddings: dict[str, MemoryCache] = {}
        self._listeners: list[Callable[[Notice], None]] = []
        self._consumers = MemoryConsumerStore()
        self.outputs = MemoryOutputStore(clock)
        self.hosts = MemoryHostStore(
            self._lock,
            clock,
            lambda agent: self._parts[self.partition_of(agent)],
            self._parts.__getitem__,
            self._items,
            secret=self.chain.message_secret(self.identity),
        )
        self.archive = MemoryArchive(
            MemoryParts(
                self._lock,
                lambda: [agent for part in self._parts for agent in part.heads],
                lambda agent: self._parts[self.partition_of(agent)].heads.get(agent),
                self._items,
                self._create,
                self._put,
                self._episodes,
                self._raw_partition,
                self._publish,
                lambda agent: self._parts[self.partition_of(agent)],
                partitions,
                lambda partition: self._parts[partition].erasures,
                lambda partition: dict(self._parts[partition].erasing),
                self._drop,
                self._erase,
                self._replace_episode,
            )
        )

    def listen(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Call `listener` for each notice, in the committing thread, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # -- writing ---------------------------------------------------------------------------------------------------

    def writer(self) -> LogWriter:
        return MemoryWriter(self._commit)

    def _commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        with self._lock:
            part = self._parts[partition]
            changed: dict[str, bytes] = {}
            owners: dict[str, bytes] = {}
            answers = [self._answer(part, append, changed, owners) for append in batch]
            part.owners.update(owners)
            notices = self._write(
                partition,
                part,
                [a for a, answer in zip(batch, answers, strict=True) if answer is _COMMITTED and a.items],
            )
        if notices:
            self._publish(notices)
        return answers

    def _publish(self, notices: list[Notice]) -> None:
        for notice in notices:
            for listener in list(self._listeners):
                try:
                    listener(notice)
                except Exception as error:  # it must not fail the append, which is committed
                    get_logger("notices").error("listener_failed", error=type(error).__name__, at=raised_at(error))

    def _create(self, adoption: Adoption, items: list[bytes]) -> list[Notice]:
        """Create an agent with a log that was made elsewhere."""
        agent, partition = adoption.agent, self.partition_of(adoption.agent)
        part = self._parts[partition]
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
        position = part.end + 1
        touched = [level for level in Granularity if bits & 1 << level]
        notices = [self._notice(partition, part, level, [], position, entries=1, levels=bits) for level in touched]
        return [evolve(notice, events=None) for notice in notices]

    def _answer(self, part: Partition, append: Append, changed: dict[str, bytes], owners: dict[str, bytes]) -> Answer:
        """`changed` and `owners` gather the entries that the accepted appends of a batch bring."""
        head = part.heads.get(append.agent)
        status = self._check(head, append)
        if status is Status.COMMITTED:
            if append.create:
                owner = self._owner(part, append, owners)
                if owner.host not in ("", _host_of(append)):
                    return Answer(Status.OWNED, 0, owner.text)
            for number, (agent, lives) in enumerate(append.requires):
                line = changed.get(agent, part.directory.get(agent))
                if (line is not None and msgpack.unpackb(line)[0] != "terminated") is not lives:
                    return Answer(Status.UNMET, number)
            if append.entry is not None:
                changed[append.agent] = append.entry
            if append.create and append.items:
                owner, host = self._owner(part, append, owners), _host_of(append)
                if owner.host != host:
                    owners[root_of(append.agent)] = Owner(owner.epoch + 1, host).text.encode()
            return _COMMITTED
        if head is None:
            return Answer(status)
        return Answer(status, head.seq, head.fence, head.claimed_at)

    def _owner(self, part: Partition, append: Append, owners: dict[str, bytes]) -> Owner:
        root = root_of(append.agent)
        return owner_of(owners.get(root, part.owners.get(root)))

    def _check(self, head: Head | None, append: Append) -> Status:
        """The same checks, in the same order, as `agents/append.lua`."""
        items = self._logs.get(append.log_key, [])
        length = len(items)
        if head is None:
            if not append.create:
                part = self._parts[self.partition_of(append.agent)]
                return Status.ERASED if append.agent in part.erased else Status.GONE
            return Status.CORRUPT if length else Status.COMMITTED
        otherwise = Status.EXISTS if append.create else None
        if head.fence != append.fence:
            if self._holds(head, append):
                return Status.DUPLICATE
            if otherwise is None and head.seq < append.expected:
                return Status.BEHIND
            return otherwise or (Status.DIVERGED if self._differs(head, append) else Status.FENCED)
        if head.seq == append.expected and not append.create:
            sound = head.digest == append.previous and head.base + length == head.seq
            sound = sound and (not items or items[-1][:16] == head.digest)
            return Status.COMMITTED if sound else Status.CORRUPT
        if self._holds(head, append):
            return Status.DUPLICATE
        return otherwise or (Status.BEHIND if head.seq < append.expected else Status.CONFLICT)

    def _holds(self, head: Head, append: Append) -> bool:
        """Whether the log has, at its seq, the event that ends this append."""
        seq = append.expected + len(append.items)
        return bool(append.items) and self._digest_at(head, append, seq) == append.items[-1][:16]

    def _differs(self, head: Head, append: Append) -> bool:
        """Whether the log has another event than the writer's at the writer's seq."""
        return self._digest_at(head, append, append.expected) not in (None, append.previous)

    def _digest_at(self, head: Head, append: Append, seq: int) -> bytes | None:
        if not head.base < seq <= head.seq:
            return None
        at = seq - head.base - 1
        found = self._logs.get(append.log_key, [])[at : at + 1]  # a damaged list can be shorter than its head says
        return found[0][:16] if found else None

    def _write(self, partition: int, part: Partition, batch: Sequence[Append]) -> list[Notice]:
        position = part.end + len(batch)
        events: dict[int, list[tuple[str, int, list[bytes]]]] = {}
        bits_of_batch = 0
        for append in batch:
            head = part.heads.get(append.agent) or Head(0, 0, NO_DIGEST, append.fence, append.updated_at, 0)
            first = head.seq + 1
            self._logs.setdefault(append.log_key, []).extend(append.items)
            part.heads[append.agent] = Head(
                head.seq + len(append.items),
                head.base,
                append.items[-1][:16],
                head.fence,
                head.claimed_at,
                append.updated_at,
                head.largest,
            )
            if append.entry is not None:
                part.directory[append.agent] = append.entry
            if append.due_ms == NOTHING_UNFINISHED:
                part.unfinished.pop(append.agent, None)
            elif append.due_ms is not None:
                part.unfinished[append.agent] = append.due_ms
            bits = 0
            for level, offset, items in _runs(append):
                events.setdefault(level, []).append((append.agent, first + offset, items))
                bits |= 1 << level
            bits_of_batch |= bits
            part.feed.append(FeedEntry(append.agent, first, len(append.items), bits))
            self._put(append.puts)
        return [
            self._notice(partition, part, level, found, position, entries=len(batch), levels=bits_of_batch)
            for level, found in events.items()
        ]

    def _items(self, agent: str) -> list[bytes]:
        return self._logs.get(self.log_key(agent), [])

    def _put(self, puts: Sequence[Put]) -> None:
        for put in puts:
            if put.ttl_ms == ADD_TO_LIST:
                self._lists.setdefault(put.key, []).append(put.value)
                continue
            expires = self._clock() + put.ttl_ms / 1000 if put.ttl_ms else float("inf")
            self._values[put.key] = (put.value, expires)

    def _episodes(self, partition: int) -> list[bytes]:
        return self._lists.get(self._keys.episodes(partition), [])

    def _drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._values.pop(key, None)

    def _replace_episode(self, partition: int, at: int, stored: bytes, by: bytes) -> None:
        episodes = self._episodes(partition)
        if episodes[at : at + 1] == [stored]:
            episodes[at] = by

    def _erase(self, agent: str) -> None:
        """Remove what is stored of an agent beside its checkpoints and keyframes."""
        part = self._parts[self.partition_of(agent)]
        for stored in (part.heads, part.directory, part.bases, part.unfinished, part.owners):
            stored.pop(agent, None)
        self._logs.pop(self.log_key(agent), None)
        for key in (self.snapshot_key(agent), self.base_key(agent)):
            self._values.pop(key, None)
        self.outputs.erase(agent)

    def _raw_partition(self, partition: int) -> RawPartition:
        part = self._parts[partition]
        return RawPartition(
            dict(part.heads),
            dict(part.directory),
            part.base,
            len(part.feed),
            {int(k): v for k, v in part.marks.items()},
        )

    def _notice(
        self,
        partition: int,
        part: Partition,
        level: int,
        found: list[tuple[str, int, list[bytes]]],
        position: int,
        *,
        entries: int,
        levels: int,
    ) -> Notice:
        previous = part.marks.get(level, 0)
        part.marks[level] = position
        small = sum(len(item) for _, _, items in found for item in items) <= self._limits.notice_bytes
        events = found if small else None
        return Notice(partition, _GRANULARITIES[level], previous, position, events, position - entries, levels)

    def claim(self, agents: Sequence[str], owner: str, now: int) -> list[Claim | None]:
        with self._lock:
            return [self._claim(agent, owner, now) for agent in agents]

    def _claim(self, agent: str, owner: str, now: int) -> Claim | None:
        heads = self._parts[self.partition_of(agent)].heads
        head = heads.get(agent)
        if head is None:
            return None
        epoch = int(head.fence.partition(":")[0]) + 1
        heads[agent] = head = evolve(head, fence=f"{epoch}:{owner}", claimed_at=now)
        return Claim(head, len(self._items(agent)))

    def trim(self, agent: str, base: Base, snapshot: bytes) -> None:
        with self._lock:
            part = self._parts[self.partition_of(agent)]
            items = self._items(agent)
            count = count_to_trim(agent, part.heads.get(agent), part.bases.get(agent), items, base)
            if count:
                self._values[self.base_key(agent)] = (snapshot, float("inf"))
                part.bases[agent] = base
                del items[:count]
                part.heads[agent] = evolve(part.heads[agent], base=base.seq)

    def trim_feed(self, partition: int, position: int) -> int:
        with self._lock:
            part = self._parts[partition]
            if not part.is_sound:
                raise feed_damaged(partition, part.end, part.base + len(part.feed))
            if part.base < position <= part.end:
                del part.feed[: position - part.base]
                part.base = position
            return part.base

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, agent: str, from_seq: int, limit: int, *, seen: Head | None = None) -> Page | None:
        with self._lock:
            head = self._parts[self.partition_of(agent)].heads.get(agent)
            if head is None:
                return None
            if from_seq <= head.base:
                raise trimmed_further(agent, from_seq - 1, head.base)
            items = self._items(agent)
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
            return self._parts[self.partition_of(agent)].bases.get(agent)

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

    def directory(self, partition: int | None = None, *, metadata: Mapping[str, str] | None = None) -> Iterator[Entry]:
        for part in self._parts if partition is None else (self._parts[partition],):
            with self._lock:
                heads, lines = dict(part.heads), dict(part.directory)
            for agent, head in heads.items():
                yield Entry(agent, head, *unpack_line(lines.get(agent)))

    def feed_pages(self, requests: Sequence[FeedRequest]) -> list[FeedPage]:
        return [self._feed_page(*request) for request in requests]

    def _feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        with self._lock:
            part = self._parts[partition]
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
        part = self._parts[partition]
        with self._lock:
            found = gather_spans(spans, part.heads, part.bases, self._items, most_bytes)
            for one in found:
                one.erasures = part.erasures
            return found

    def erased_until(self, partition: int, agent: str) -> int:
        with self._lock:
            return self._parts[partition].erased.get(agent, -1)

    def positions(self) -> list[int]:
        with self._lock:
            # A damaged feed ends after everything, so that its readers read on, and find out.
            return [
                part.end if part.is_sound else max(part.end, part.base + len(part.feed)) + 1 for part in self._parts
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


class MemoryCache:
    """A `ContentCache` in this process's memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[bytes, bytes] = {}

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(field) for field in fields]

    def store(self, values: Mapping[bytes, bytes]) -> None:
        with self._lock:
            self._values.update(values)

    def drop(self, fields: Sequence[bytes]) -> None:
        with self._lock:
            for field in fields:
                self._values.pop(field, None)


def _host_of(append: Append) -> str:
    return append.fence.partition(":")[2]


def _runs(append: Append) -> Iterator[tuple[int, int, list[bytes]]]:
    """The events of an append in runs of one level: the level, the place of the first, and the events."""
    levels, items = append.levels, append.items
    if len(levels) == 1:  # most appends: in a tenth of the time
        yield levels[0], 0, items
        return
    for level, run in groupby(range(len(items)), levels.__getitem__):
        offsets = list(run)
        yield level, offsets[0], items[offsets[0] : offsets[-1] + 1]
