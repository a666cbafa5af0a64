"""How a batch goes to `append.lua` and how its answers come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from .codec import DIGEST_SIZE
from .errors import CorruptEvent
from .keys import Keys
from .limits import Limits
from .log import Answer, Append, Claim, Head, Status
from .model import Granularity
from .script import Script, argument

__all__ = ["AppendFormat", "answers_of", "claim_of", "head_of", "pack_wire"]

_COMMITTED = Answer(Status.COMMITTED)


def pack_wire(value: Any) -> bytes:
    """For the server's Lua: its cmsgpack does not know msgpack's binary type, so bytes go as raw strings."""
    return msgpack.packb(value, use_bin_type=False)


class AppendFormat:
    """Makes the calls of `append.lua` for one namespace."""

    def __init__(self, keys: Keys, limits: Limits, publish: bytes = b"PUBLISH") -> None:
        self._keys = keys
        self._publish = publish
        self._limit = b"%d" % limits.notice_bytes
        self._fixed: dict[int, tuple[list[bytes], list[bytes]]] = {}
        self.script = Script("append")

    def call(self, partition: int, batch: Sequence[Append]) -> bytes:
        """The bytes of one call."""
        fixed = self._fixed.get(partition)
        if fixed is None:
            fixed = self._fixed[partition] = self._of_partition(partition)
        keys = [*fixed[0], *[argument(append.log_key.encode()) for append in batch]]
        rows: list[list[Any]] = []
        for a in batch:
            puts = [(put.value, put.ttl_ms) for put in a.puts]
            keys += [argument(put.key.encode()) for put in a.puts]
            rows.append(
                [
                    a.agent,
                    a.expected,
                    a.previous,
                    a.fence,
                    a.items,
                    a.levels,
                    a.updated_at,
                    a.create,
                    a.entry or False,
                    puts,
                ]
            )
        return self.script.call_of_parts(keys, [argument(pack_wire(rows)), *fixed[1]])

    def _of_partition(self, partition: int) -> tuple[list[bytes], list[bytes]]:
        """What every call of a partition has in common, in the server's protocol."""
        k = self._keys
        keys = [k.heads(partition), k.directory(partition), k.feed(partition), k.marks(partition)]
        channels = [k.channel(partition, level).encode() for level in Granularity]
        arguments = [self._publish, self._limit, *channels]
        return [argument(key.encode()) for key in keys], [argument(data) for data in arguments]


def answers_of(reply: bytes) -> tuple[list[Answer], int]:
    """Answers in the order of the batch, and how many notices could not be published."""
    rows, lost = msgpack.unpackb(reply, raw=True)
    return [
        _COMMITTED if row == 0 else Answer(Status(row[0]), row[1], row[2].decode(), int(row[3])) for row in rows
    ], lost


def head_of(stored: bytes) -> Head:
    """A head as it stands in `heads`. Raises CorruptEvent."""
    try:
        row = msgpack.unpackb(stored, raw=True)
    except (ValueError, TypeError):
        row = None
    return _head(row)


def claim_of(row: list[Any]) -> Claim:
    """A head as `claim.lua` answers it. Raises CorruptEvent."""
    return Claim(_head(row), int(row[6]))


def _head(row: Any) -> Head:
    try:
        seq, base, digest, fence, claimed_at, updated_at = row[:6]
        if len(digest) == DIGEST_SIZE:
            return Head(int(seq), int(base), digest, fence.decode(), int(claimed_at), int(updated_at))
        problem = "another digest"
    except (ValueError, TypeError, AttributeError) as error:
        problem = type(error).__name__
    raise CorruptEvent(f"the head of an agent is damaged ({problem}); restore it from a backup")
