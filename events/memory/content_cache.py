"""A cache of vectors in this process's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock


class MemoryCache:
    """A `ContentCache` in this process's memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[bytes, bytes] = {}

    def load(self, fields: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(field) for field in fields]

    def store(self, values: Mapping[bytes, bytes]) -> None:
        with self._lock:
            self._values.update(values)

    def drop(self, fields: Sequence[bytes]) -> None:
        with self._lock:
            for field in fields:
                self._values.pop(field, None)
