"""The log in this process's memory: the same answers as the server gives, for unit tests and trials."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import time
from typing import Any
from uuid import uuid4

from attrs import define, evolve, field

import msgpack

from .codec import NO_DIGEST
from .errors import CorruptEvent, DuramenError, InvalidMessage, Trimmed
from .keys import Keys, partition_of
from .limits import Limits
from .log import Answer, Append, Claim, Entry, FeedEntry, Head, LogWriter, Notice, Page, Status
from .model import Granularity

__all__ = ["MemoryLog", "MemoryWriter"]


@define(eq=False)
class _Partition:
    heads: dict[str, Head] = field(factory=dict[str, Head])
    directory: dict[str, bytes] = field(factory=dict[str, bytes])
    feed: list[FeedEntry] = field(factory=list[FeedEntry])
    marks: dict[int, int] = field(factory=dict[int, int])


class MemoryLog:
    """An `EventLog` of this process, under the same contract suite as `RedisLog`. Gone when the process ends.

    Two systems given one `MemoryLog` behave as two processes on one server. `clock` (seconds) decides when
    checkpoints expire. `listen` is the twin of subscribing to the channels.
    """

    def __init__(
        self, *, partitions: int = 16, limits: Limits | None = None, clock: Callable[[], float] = time
    ) -> None:
        if type(partitions) is not int or not 1 <= partitions <= 99:
            raise InvalidMessage("a namespace has 1 to 99 partitions", actual=partitions)
        self._limits = limits or Limits()
        self._clock = clock
        self._keys = Keys("memory")
        self._identity = uuid4().hex
        self._lock = threading.Lock()
        self._partitions = [_Partition() for _ in range(partitions)]
        self._logs: dict[str, list[bytes]] = {}
        self._values: dict[str, tuple[bytes, float]] = {}
        self._listeners: list[Callable[[Notice], None]] = []

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def partitions(self) -> int:
        return len(self._partitions)

    @property
    def durability(self) -> str:
        return "memory"

    def partition_of(self, agent: str) -> int:
        return partition_of(agent, len(self._partitions))

    def log_key(self, agent: str) -> str:
        return self._keys.log(self.partition_of(agent), agent)

    def snapshot_key(self, agent: str) -> str:
        return self._keys.snapshot(self.partition_of(agent), agent)

    def checkpoint_key(self, agent: str, checkpoint_id: str) -> str:
        return self._keys.checkpoint(self.partition_of(agent), agent, checkpoint_id)

    def listen(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Call `listener` for each notice, in the committing thread; what comes back ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # -- writing ---------------------------------------------------------------------------------------------------

    def writer(self) -> LogWriter:
        return MemoryWriter(self)

    def commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        with self._lock:
            part = self._partitions[partition]
            answers = [self._answer(part, append) for append in batch]
            accepted = [a for a, answer in zip(batch, answers, strict=True) if answer.status is Status.COMMITTED]
            notices = self._write(partition, part, [append for append in accepted if append.items])
        for notice in notices:
            for listener in list(self._listeners):
                listener(notice)
        return answers

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
        events: dict[int, list[tuple[str, int, bytes]]] = {}
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
            for offset, (item, level) in enumerate(zip(append.items, append.levels, strict=True)):
                events.setdefault(level, []).append((append.agent, first + offset, item))
            bits = sum(1 << level for level in set(append.levels))
            part.feed.append(FeedEntry(append.agent, first, len(append.items), bits))
            for put in append.puts:
                expires = self._clock() + put.ttl_ms / 1000 if put.ttl_ms else float("inf")
                self._values[put.key] = (put.value, expires)
        return [self._notice(partition, part, level, found) for level, found in events.items()]

    def _notice(self, partition: int, part: _Partition, level: int, found: list[tuple[str, int, bytes]]) -> Notice:
        previous = part.marks.get(level, 0)
        part.marks[level] = len(part.feed)
        small = sum(len(item) for _, _, item in found) <= self._limits.notice_bytes
        return Notice(partition, Granularity(level), previous, len(part.feed), found if small else None)

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
                raise Trimmed(
                    f"events up to {head.base} of {agent} were trimmed; read from {head.base + 1} on",
                    agent=agent,
                    expected=from_seq,
                    actual=head.base + 1,
                )
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
        with self._lock:
            return self._partitions[partition].feed[position : position + max(1, limit)]

    def close(self) -> None:
        """Nothing to let go of: the log lives as long as the object, so that a system can be opened on it again."""


class MemoryWriter:
    """The writing side of `MemoryLog`: an append is answered as soon as it is sent."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._done: deque[tuple[Sequence[Append], list[Answer] | DuramenError]] = deque()

    @property
    def in_flight(self) -> int:
        return len(self._done)

    @property
    def connected(self) -> bool:
        return True

    def give_up(self) -> None:
        """Nothing is ever under way."""

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        self._done.extend((batch, self._log.commit(partition, batch)) for partition, batch in batches)

    def receive(self, timeout: float | None) -> list[tuple[Sequence[Append], list[Answer] | DuramenError]]:
        done = list(self._done)
        self._done.clear()
        return done

    def wake(self) -> None:
        """Nothing ever waits."""

    def close(self) -> None:
        self._done.clear()
