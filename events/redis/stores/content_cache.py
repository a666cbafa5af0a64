"""Vectors of texts, in one hash of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from ..client import RedisClient

_LISTED: Final = b"embeddings:"
_AT_ONCE: Final = 256
"""Fields a command: a megabyte or so of vectors, so that no other command waits long."""


class RedisCache:
    """A `ContentCache` in one hash of a server. Raises what `RedisClient.execute_all` raises.

    `namespace` is the hash that lists such keys, by which they are found again: a field `embeddings:MID` each.
    """

    def __init__(self, server: RedisClient, key: str, namespace: str) -> None:
        self._server = server
        self._key = key.encode()
        self._namespace = namespace
        self._is_listed = False

    @classmethod
    def stored(cls, server: RedisClient, namespace: str) -> list[RedisCache]:
        """All caches that something was stored in."""
        fields = server.read_hash(namespace, "look for caches of vectors")
        names = [field.decode() for field in fields if field.startswith(_LISTED)]
        return [cls(server, f"{namespace}:{name}", namespace) for name in names]

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for at in range(0, len(fields), _AT_ONCE):
            part = fields[at : at + _AT_ONCE]
            found += self._server.execute("read the cache of vectors", b"HMGET", self._key, *part)
        return found

    def store(self, values: Mapping[bytes, bytes]) -> None:
        if not self._is_listed:
            field = self._key.removeprefix(f"{self._namespace}:".encode())
            self._server.execute("list a cache of vectors", b"HSET", self._namespace.encode(), field, b"1")
            self._is_listed = True
        rest = iter(values.items())
        while part := list(islice(rest, _AT_ONCE)):
            pairs = [side for pair in part for side in pair]
            self._server.execute("write the cache of vectors", b"HSET", self._key, *pairs)

    def drop(self, fields: Sequence[bytes]) -> None:
        for at in range(0, len(fields), _AT_ONCE):
            part = fields[at : at + _AT_ONCE]
            self._server.execute("remove from the cache of vectors", b"HDEL", self._key, *part)
