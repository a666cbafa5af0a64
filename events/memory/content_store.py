"""Content in this process's memory."""

from __future__ import annotations

from collections.abc import Collection

from attrs import frozen

from ..log import KEEP, STAGED_MS, ListedContent, Put, content_without_agent
from .storage import MemoryStorage


@frozen(eq=False)
class _Kept:
    data: bytes
    written_ms: int
    staged: bool

    def is_there(self, now: int) -> bool:
        """Whether it is not of an agent that has not come to be for a day."""
        return not self.staged or self.written_ms > now - STAGED_MS


class MemoryContentStore:
    """A `ContentStore`. Thread-safe, under the log's own lock, which holders of `erase` and `adopt` have."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._lock = storage.lock
        self._contents: dict[str, dict[bytes, _Kept]] = {}

    def write(self, agent: str, digest: bytes, data: bytes, *, staged: bool = False) -> None:
        with self._lock:
            exists = agent in self._storage.part_of(agent).heads
            if not exists and not staged:
                raise content_without_agent(agent)
            known = self._find(agent, digest)
            kept = data if known is None else known.data
            self._contents.setdefault(agent, {})[digest] = _Kept(kept, self._now(), not exists)

    def keep(self, agent: str, digests: Collection[bytes]) -> tuple[Put, ...]:
        return tuple(Put(agent, digest, KEEP) for digest in digests)

    def read(self, agent: str, digest: bytes) -> bytes | None:
        with self._lock:
            found = self._find(agent, digest)
            return None if found is None else found.data

    def list(self, agent: str) -> list[ListedContent]:
        with self._lock:
            now, found = self._now(), self._contents.get(agent, {}).items()
            return [
                ListedContent(digest, len(kept.data), now - kept.written_ms)
                for digest, kept in found
                if kept.is_there(now)
            ]

    def drop(self, agent: str, digests: Collection[bytes], age_ms: int) -> int:
        with self._lock:
            held, newest = self._contents.get(agent, {}), self._now() - age_ms
            gone = [digest for digest in digests if digest in held and held[digest].written_ms <= newest]
            for digest in gone:
                del held[digest]
            return len(gone)

    def adopt(self, agent: str) -> None:
        """Keep for good what was staged for an agent."""
        now = self._now()
        for digest, kept in self._contents.get(agent, {}).items():
            if kept.is_there(now):
                self._contents[agent][digest] = _Kept(kept.data, kept.written_ms, staged=False)

    def has(self, agent: str, digests: Collection[bytes]) -> bool:
        return all(self._find(agent, digest) is not None for digest in digests)

    def erase(self, agent: str) -> None:
        self._contents.pop(agent, None)

    def _now(self) -> int:
        return int(self._storage.clock() * 1000)

    def _find(self, agent: str, digest: bytes) -> _Kept | None:
        kept = self._contents.get(agent, {}).get(digest)
        return kept if kept is not None and kept.is_there(self._now()) else None
