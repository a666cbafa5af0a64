"""The bytes of a call of `agents/append.lua`, and of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from attrs import frozen

import msgpack

from ..codec import DIGEST_SIZE
from ..errors import CorruptEvent
from ..log import Answer, Append, Claim, Head, Keys, Status
from ..model import Granularity, Limits
from .client import Script, encode_argument

_COMMITTED: Final = Answer(Status.COMMITTED)
_FIXED_KEYS: Final = 3
_FIXED_ARGUMENTS: Final = 3
_LEAST_HEAD: Final = 6


@frozen(eq=False, repr=False)
class _Fixed:
    """The parts that all calls of a partition have in common, in the server's protocol."""

    keys: bytes
    owners: bytes
    unfinished: bytes
    tails: dict[bytes, bytes]
    """By the levels of a batch: command, limit, and each level with its channel."""


class AppendFormat:
    """Makes the calls of `agents/append.lua` for one namespace. Used by one thread at a time."""

    def __init__(self, keys: Keys, limits: Limits, script: Script, publish: bytes = b"PUBLISH") -> None:
        self._keys = keys
        self._publish = publish
        self._limit = b"%d" % limits.notice_bytes
        self._fixed: dict[int, _Fixed] = {}
        # One packer for all calls: making one each time costs more than packing a lone append.
        self._pack = cast("Callable[[Any], bytes]", msgpack.Packer(use_bin_type=False).pack)
        self.script = script

    def call(self, partition: int, batch: Sequence[Append]) -> bytes:
        """The bytes of one call."""
        fixed = self._fixed.get(partition)
        if fixed is None:
            fixed = self._fixed[partition] = self._of_partition(partition)
        keys = [fixed.keys]
        puts: list[bytes] = []
        rows: list[list[Any]] = []
        creates = indexes = False
        for a in batch:
            keys.append(encode_argument(a.log_key.encode()))
            row: list[Any] = [a.agent, a.expected, a.last or a.previous, a.fence, a.items, a.levels, a.updated_at]
            if a.create or a.entry is not None or a.puts:
                row += (a.create, a.entry or False, [(put.value, put.ttl_ms) for put in a.puts])
                puts += [encode_argument(put.key.encode()) for put in a.puts]
                if a.requires or a.due_ms is not None:
                    row.append(a.requires or False)
                creates = creates or a.create
            if a.due_ms is not None:
                row.append(a.due_ms)
                indexes = True
            rows.append(row)
        if indexes:
            puts.append(fixed.unfinished)
        if creates:
            puts.append(fixed.owners)
        levels = batch[0].levels if len(batch) == 1 else b"".join([a.levels for a in batch])
        if len(levels) > 1:
            levels = bytes(set(levels))
        tail = fixed.tails.get(levels)
        if tail is None:
            tail = fixed.tails[levels] = self._tail(partition, levels)
        return self.script.call_of_parts(
            _FIXED_KEYS + len(batch) + len(puts),
            b"".join(keys + puts),
            _FIXED_ARGUMENTS + 2 * len(levels),
            encode_argument(self._pack(rows)) + tail,
        )

    def _of_partition(self, partition: int) -> _Fixed:
        k = self._keys
        keys = [k.heads(partition), k.directory(partition), k.feed(partition)]
        owners, unfinished = (encode_argument(key(partition).encode()) for key in (k.owners, k.unfinished))
        return _Fixed(b"".join([encode_argument(key.encode()) for key in keys]), owners, unfinished, {})

    def _tail(self, partition: int, levels: bytes) -> bytes:
        parts = [self._publish, self._limit]
        for level in levels:
            parts += (b"%d" % level, self._keys.channel(partition, Granularity(level)).encode())
        return b"".join(map(encode_argument, parts))


def answers_of(reply: Any, count: int) -> tuple[list[Answer], int]:
    """The answers to a batch of `count` appends, in order, and how many notices could not be published."""
    if reply == 0:
        return [_COMMITTED] * count, 0
    rows, lost = msgpack.unpackb(reply, raw=True)
    return [
        _COMMITTED if row == 0 else Answer(Status(row[0]), row[1], row[2].decode(), int(row[3])) for row in rows
    ], lost


def head_of(stored: bytes, agent: str) -> Head:
    """An agent's head as stored in `heads`. Raises CorruptEvent."""
    try:
        row = msgpack.unpackb(stored, raw=True)
    except (ValueError, TypeError):
        row = None
    return _head(row, agent)


def claim_of(row: Any, agent: str) -> Claim | None:
    """A claim as `agents/claim.lua` answers it; None if there is no such agent. Raises CorruptEvent."""
    if row is False:
        return None
    return Claim(_head(None if row is True else row[0], agent), 0 if row is True else int(row[1]))


def _head(row: Any, agent: str) -> Head:
    try:
        seq, base, digest, fence, claimed_at, updated_at = row[:_LEAST_HEAD]
        if len(digest) == DIGEST_SIZE:
            largest = int(row[6]) if len(row) > _LEAST_HEAD else 0
            return Head(int(seq), int(base), digest, fence.decode(), int(claimed_at), int(updated_at), largest)
        problem = "another digest"
    except (ValueError, TypeError, AttributeError) as error:
        problem = type(error).__name__
    raise CorruptEvent(f"the head of {agent} is damaged ({problem}); restore it from a backup", agent=agent)
