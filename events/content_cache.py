"""What was computed from a content and can be computed again, kept so that it need not be."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .redis_server import RedisServer

__all__ = ["ContentCache", "MemoryCache", "RedisCache"]

_AT_ONCE: Final = 256
"""Fields a command: a megabyte or so of vectors, so that no other command waits long behind it."""


class ContentCache(Protocol):
    """Bytes by field; a field names a content by its hash. Thread-safe. What is lost is computed again."""

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        """The value of each field, in order; None where there is none."""
        ...

    def store(self, values: Mapping[bytes, bytes]) -> None:
        """Keep these values. Storing twice is the same as once."""
        ...


class MemoryCache:
    """A cache in this process's memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[bytes, bytes] = {}

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(field) for field in fields]

    def store(self, values: Mapping[bytes, bytes]) -> None:
        with self._lock:
            self._values.update(values)


class RedisCache:
    """A cache in one hash of a server. Raises what `RedisServer.ask_all` raises."""

    def __init__(self, server: RedisServer, key: str) -> None:
        self._server = server
        self._key = key.encode()

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for at in range(0, len(fields), _AT_ONCE):
            part = fields[at : at + _AT_ONCE]
            found += self._server.ask("read the cache of vectors", b"HMGET", self._key, *part)
        return found

    def store(self, values: Mapping[bytes, bytes]) -> None:
        rest = iter(values.items())
        while part := list(islice(rest, _AT_ONCE)):
            pairs = [side for pair in part for side in pair]
            self._server.ask("write the cache of vectors", b"HSET", self._key, *pairs)
