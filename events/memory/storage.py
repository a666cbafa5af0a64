"""What a log in memory holds, and the writing of it that appends, imports and erasures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from attrs import evolve

from ..log import (
    ADD_TO_LIST,
    KEEP,
    Adoption,
    Base,
    FeedEntry,
    Head,
    Keys,
    Notice,
    Put,
    RawPartition,
    partition_of,
)
from ..logging import get_logger, raised_at
from ..model import Granularity, Limits
from .partition import Partition

_GRANULARITIES: Final[dict[int, Granularity]] = {int(level): level for level in Granularity}
"""By number. Calling the enum takes ten times as long."""


class MemoryStorage:
    """The values of one `MemoryLog`. All methods but `publish` are called under `lock`."""

    def __init__(self, partitions: int, keys: Keys, limits: Limits, clock: Callable[[], float]) -> None:
        self.lock = Lock()
        self.keys = keys
        self.limits = limits
        self.clock = clock
        self.parts = [Partition() for _ in range(partitions)]
        self.logs: dict[str, list[bytes]] = {}
        """The events of agents, by the key of their log."""
        self.values: dict[str, tuple[bytes, float]] = {}
        """Values by key, and when they expire (`clock`)."""
        self.lists: dict[str, list[bytes]] = {}
        self.listeners: list[Callable[[Notice], None]] = []

    def part_of(self, agent: str) -> Partition:
        """The partition of an agent."""
        return self.parts[partition_of(agent, len(self.parts))]

    def items(self, agent: str) -> list[bytes]:
        """The events of an agent as they are stored."""
        return self.logs.get(self.keys.log(partition_of(agent, len(self.parts)), agent), [])

    def value(self, key: str) -> bytes | None:
        """The value of a key, unless it has expired."""
        value, expires = self.values.get(key, (None, 0.0))
        if value is not None and expires <= self.clock():
            del self.values[key]
            return None
        return value

    def put(self, puts: Sequence[Put]) -> None:
        """Store values."""
        for put in puts:
            if put.ttl_ms == KEEP:
                continue
            if put.ttl_ms == ADD_TO_LIST:
                self.lists.setdefault(put.key, []).append(put.value)
                continue
            expires = self.clock() + put.ttl_ms / 1000 if put.ttl_ms else float("inf")
            self.values[put.key] = (put.value, expires)

    def episodes(self, partition: int) -> list[bytes]:
        """The episodes of a partition as they are stored."""
        return self.lists.get(self.keys.episodes(partition), [])

    def create(self, adoption: Adoption, items: list[bytes]) -> list[Notice]:
        """Create an agent with a log that was made elsewhere."""
        agent, partition = adoption.agent, partition_of(adoption.agent, len(self.parts))
        part = self.parts[partition]
        if items:
            self.logs[self.keys.log(partition, agent)] = items
            first = adoption.first_in_feed
            part.feed.append(FeedEntry(agent, first, adoption.seq + 1 - first, adoption.levels))
        if adoption.due_ms is not None:
            part.unfinished[agent] = adoption.due_ms
        part.directory[agent] = adoption.entry
        if adoption.base:
            part.bases[agent] = Base(adoption.base, adoption.before)
        at = adoption.updated_at
        part.heads[agent] = Head(adoption.seq, adoption.base, adoption.digest, adoption.fence, at, at, adoption.largest)
        self.put(adoption.puts)
        bits = adoption.levels if items else 0
        position = part.end + 1
        touched = [level for level in Granularity if bits & 1 << level]
        notices = [self.notice(partition, part, level, [], position, entries=1, levels=bits) for level in touched]
        return [evolve(notice, events=None) for notice in notices]

    def erase(self, agent: str) -> None:
        """Remove what is stored of an agent beside its live outputs, checkpoints and keyframes."""
        partition = partition_of(agent, len(self.parts))
        part = self.parts[partition]
        for stored in (part.heads, part.directory, part.bases, part.unfinished, part.owners):
            stored.pop(agent, None)
        self.logs.pop(self.keys.log(partition, agent), None)
        for key in (self.keys.snapshot(partition, agent), self.keys.base(partition, agent)):
            self.values.pop(key, None)

    def raw_partition(self, partition: int) -> RawPartition:
        """A partition as it is."""
        part = self.parts[partition]
        return RawPartition(
            dict(part.heads),
            dict(part.directory),
            part.base,
            len(part.feed),
            {int(k): v for k, v in part.marks.items()},
        )

    def notice(
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
        """The notice of what was written at one level, which moves the level's mark, and the end."""
        previous = part.marks.get(level, 0)
        part.marks[level] = part.end = position
        small = sum([sum(map(len, items)) for _, _, items in found]) <= self.limits.notice_bytes
        events = found if small else None
        return Notice(partition, _GRANULARITIES[level], previous, position, events, position - entries, levels)

    def publish(self, notices: list[Notice]) -> None:
        """Call the listeners; not under `lock`."""
        for notice in notices:
            for listener in list(self.listeners):
                try:
                    listener(notice)
                except Exception as error:  # it must not fail the append, which is committed
                    get_logger("notices").error("listener_failed", error=type(error).__name__, at=raised_at(error))
