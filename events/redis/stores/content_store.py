"""Content on a server: a list of chunks each, and a hash that lists those of an agent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, cast

import msgpack

from ...log import KEEP, STAGED_MS, Keys, ListedContent, Put, chunks_of, content_without_agent
from ..client import RedisClient, Script

_READ: Final = 4
"""Chunks that are read at once."""
_KEEP: Final = "keep content"


class RedisContentStore:
    """A `ContentStore` on a server."""

    def __init__(self, server: RedisClient, keys: Keys, partition_of: Callable[[str], int]) -> None:
        self._server = server
        self._keys = keys
        self._partition_of = partition_of
        self._write = Script("contents/write")
        self._drop = Script("contents/drop")

    def write(self, agent: str, digest: bytes, data: bytes, *, staged: bool = False) -> None:
        partition, chunks = self._partition_of(agent), chunks_of(data)
        keys = [
            self._keys.heads(partition),
            self._keys.contents(partition, agent),
            self._keys.chunks(partition, agent, digest),
        ]
        fields = [agent.encode(), digest, b"%d" % len(data)]
        life = b"%d" % STAGED_MS if staged else b""
        there = int(self._server.run_script(self._write, keys, [*fields, b"-1", b"", life], _KEEP))
        while 0 <= there < len(chunks):
            arguments = [*fields, b"%d" % there, chunks[there], life]
            there = int(self._server.run_script(self._write, keys, arguments, _KEEP))
        if there < 0:
            raise content_without_agent(agent)

    def keep(self, agent: str, digests: Collection[bytes]) -> tuple[Put, ...]:
        partition = self._partition_of(agent)
        keys = [self._keys.chunks(partition, agent, digest) for digest in digests]
        return tuple(Put(key, b"", KEEP) for key in (self._keys.contents(partition, agent), *keys))

    def read(self, agent: str, digest: bytes) -> bytes | None:
        key = self._keys.chunks(self._partition_of(agent), agent, digest).encode()
        chunks: list[bytes] = []
        while True:
            first = len(chunks)
            page: list[bytes] = self._server.execute(
                "read content", b"LRANGE", key, b"%d" % first, b"%d" % (first + _READ - 1)
            )
            chunks += page
            if len(page) < _READ:
                return b"".join(chunks) if chunks else None

    def list(self, agent: str) -> list[ListedContent]:
        found = self._server.read_hash(self._keys.contents(self._partition_of(agent), agent), "list contents")
        seconds, microseconds = map(int, self._server.execute("list contents", b"TIME") if found else (0, 0))
        now = seconds * 1000 + microseconds // 1000
        return [_listed(digest, stored, now) for digest, stored in found.items()]

    def drop(self, agent: str, digests: Collection[bytes], age_ms: int) -> int:
        if not digests:
            return 0
        partition = self._partition_of(agent)
        keys = [self._keys.contents(partition, agent)]
        keys += [self._keys.chunks(partition, agent, digest) for digest in digests]
        return int(self._server.run_script(self._drop, keys, [b"%d" % age_ms, *digests], "drop content"))


def _listed(digest: bytes, stored: bytes, now: int) -> ListedContent:
    size, written = cast("list[int]", msgpack.unpackb(stored))
    return ListedContent(digest, size, now - written)
