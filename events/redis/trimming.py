"""Trimming logs and feeds on a server."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgpack

from ..codec import DIGEST_SIZE
from ..errors import CorruptEvent
from ..log import HEAD_MISMATCH, Base, Keys, diverged_at_base, feed_damaged, trimmed_further, unknown_agent
from .client import RedisClient, Script


class _Status(IntEnum):
    """The answers of `agents/trim.lua`."""

    DONE = 0
    GONE = 1
    PASSED = 2
    OTHER = 3
    CORRUPT = 4


class RedisTrimming:
    """Trims the logs and feeds of one namespace, and reads where they were trimmed. Thread-safe."""

    def __init__(self, server: RedisClient, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._trim = Script("agents/trim")
        self._trim_feed = Script("feed/trim")

    def base(self, partition: int, agent: str) -> Base | None:
        """As `EventLog.base`."""
        key = self._keys.bases(partition).encode()
        stored = self._server.execute("read where a log was trimmed", b"HMGET", key, agent.encode())[0]
        return None if stored is None else _base_of(stored, agent)

    def trim(self, partition: int, agent: str, base: Base, snapshot: bytes) -> None:
        """As `EventLog.trim`. Twice is the same as once, so the call is repeated where its reply was lost."""
        k = self._keys
        keys = [k.heads(partition), k.bases(partition), k.log(partition, agent), k.base(partition, agent)]
        arguments = [agent.encode(), b"%d" % base.seq, base.digest, snapshot]
        status, found = self._server.run_script(self._trim, keys, arguments, "trim a log")
        if status == _Status.GONE:
            raise unknown_agent(agent)
        if status == _Status.PASSED:
            raise trimmed_further(agent, base.seq, int(found))
        if status == _Status.OTHER:
            raise diverged_at_base(agent, base)
        if status == _Status.CORRUPT:
            raise CorruptEvent(HEAD_MISMATCH.format(agent), agent=agent)

    def trim_feed(self, partition: int, position: int) -> int:
        """As `EventLog.trim_feed`."""
        keys = [self._keys.feed(partition), self._keys.heads(partition)]
        found = int(self._server.run_script(self._trim_feed, keys, [b"%d" % position], "trim a feed"))
        if found < 0:
            raise feed_damaged(partition)
        return found


def _base_of(stored: bytes, agent: str) -> Base:
    try:
        row: Any = msgpack.unpackb(stored, raw=True)
        base = Base(int(row[0]), row[1])
    except (ValueError, TypeError, LookupError):
        base = None
    if base is None or type(base.digest) is not bytes or len(base.digest) != DIGEST_SIZE:
        raise CorruptEvent(f"where {agent} was trimmed is damaged; restore it from a backup", agent=agent)
    return base
