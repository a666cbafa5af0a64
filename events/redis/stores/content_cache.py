"""Vectors of texts, in one hash of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from ..client import RedisClient

_AT_ONCE: Final = 256
"""Fields a command: a megabyte or so of vectors, so that no other command waits long."""


class RedisCache:
    """A `ContentCache` in one hash of a server. Raises what `RedisClient.ask_all` raises."""

    def __init__(self, server: RedisClient, key: str) -> None:
        self._server = server
        self._key = key.encode()

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for at in range(0, len(fields), _AT_ONCE):
            part = fields[at : at + _AT_ONCE]
            found += self._server.execute("read the cache of vectors", b"HMGET", self._key, *part)
        return found

    def store(self, values: Mapping[bytes, bytes]) -> None:
        rest = iter(values.items())
        while part := list(islice(rest, _AT_ONCE)):
            pairs = [side for pair in part for side in pair]
            self._server.execute("write the cache of vectors", b"HSET", self._key, *pairs)
