"""Appends to the log in memory: the checks of `agents/append.lua`, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

import msgpack

from ..codec import NO_DIGEST
from ..log import (
    KEEP,
    NOTHING_UNFINISHED,
    Answer,
    Append,
    FeedEntry,
    Head,
    Notice,
    Owner,
    Status,
    owner_of,
)
from ..model import root_of
from .content_store import MemoryContentStore
from .partition import Partition
from .storage import MemoryStorage

_COMMITTED: Final = Answer(Status.COMMITTED)


class MemoryAppends:
    """Commits appends, as the script does on a server. Thread-safe."""

    def __init__(self, storage: MemoryStorage, contents: MemoryContentStore) -> None:
        self._storage = storage
        self._contents = contents

    def commit(self, partition: int, batch: Sequence[Append]) -> list[Answer]:
        """Commit a batch of appends of one partition, each of them or not, and publish its notices."""
        with self._storage.lock:
            part = self._storage.parts[partition]
            changed: dict[str, bytes] = {}
            owners: dict[str, bytes] = {}
            answers = [self._answer(part, append, changed, owners) for append in batch]
            if owners:
                part.owners.update(owners)
            notices = self._write(
                partition,
                part,
                [a for a, answer in zip(batch, answers, strict=True) if answer is _COMMITTED and a.items],
            )
        if notices:
            self._storage.publish(notices)
        return answers

    def _answer(self, part: Partition, append: Append, changed: dict[str, bytes], owners: dict[str, bytes]) -> Answer:
        """`changed` and `owners` gather the entries that the accepted appends of a batch bring."""
        head = part.heads.get(append.agent)
        status = self._check(head, append)
        if status is Status.COMMITTED and not self._contents.has(append.agent, _kept(append)):
            status = Status.ERASED
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
        items = self._storage.logs.get(append.log_key, [])
        length = len(items)
        if head is None:
            if not append.create:
                part = self._storage.part_of(append.agent)
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
            sound = sound and (not items or _is_known(items[-1], append))
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
        # A damaged list can be shorter than its head says.
        found = self._storage.logs.get(append.log_key, [])[at : at + 1]
        return found[0][:16] if found else None

    def _write(self, partition: int, part: Partition, batch: Sequence[Append]) -> list[Notice]:
        position = part.end + len(batch)
        events: dict[int, list[tuple[str, int, list[bytes]]]] = {}
        bits_of_batch = 0
        for append in batch:
            head = part.heads.get(append.agent) or Head(0, 0, NO_DIGEST, append.fence, append.updated_at, 0)
            first = head.seq + 1
            self._storage.logs.setdefault(append.log_key, []).extend(append.items)
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
            self._storage.put(append.puts)
            if append.create:
                self._contents.adopt(append.agent)
        return [
            self._storage.notice(partition, part, level, found, position, entries=len(batch), levels=bits_of_batch)
            for level, found in events.items()
        ]


def _is_known(event: bytes, append: Append) -> bool:
    """Whether an event is the one that the writer knows as the last: by all its bytes, or by its digest alone."""
    return event == append.last if append.last else event[:16] == append.previous


def _kept(append: Append) -> list[bytes]:
    """The digests of the staged contents that stay with an append."""
    return [put.value for put in append.puts if put.ttl_ms == KEEP]


def _host_of(append: Append) -> str:
    return append.fence.partition(":")[2]


def _runs(append: Append) -> Sequence[tuple[int, int, list[bytes]]]:
    """The events of an append in runs of one level: the level, the place of the first, and the events."""
    levels, items = append.levels, append.items
    if len(levels) == 1:  # most appends: in a tenth of the time
        return ((levels[0], 0, items),)
    places = [(level, list(run)) for level, run in groupby(range(len(items)), levels.__getitem__)]
    return [(level, run[0], items[run[0] : run[-1] + 1]) for level, run in places]
