"""Content in this process's memory."""

from __future__ import annotations

from collections.abc import Collection

from attrs import frozen

from ..log import STAGED_MS, ListedContent, content_without_agent
from .storage import MemoryStorage


@frozen(eq=False)
class _Kept:
    data: bytes
    written_ms: int
    staged: bool


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
            known = self._live(agent).get(digest)
            kept = data if known is None else known.data
            self._contents.setdefault(agent, {})[digest] = _Kept(kept, self._now(), not exists)

    def read(self, agent: str, digest: bytes) -> bytes | None:
        with self._lock:
            found = self._live(agent).get(digest)
            return None if found is None else found.data

    def list(self, agent: str) -> list[ListedContent]:
        with self._lock:
            now, found = self._now(), self._live(agent).items()
            return [ListedContent(digest, len(kept.data), now - kept.written_ms) for digest, kept in found]

    def drop(self, agent: str, digests: Collection[bytes], age_ms: int) -> int:
        with self._lock:
            held, newest = self._contents.get(agent, {}), self._now() - age_ms
            gone = [digest for digest in digests if digest in held and held[digest].written_ms <= newest]
            for digest in gone:
                del held[digest]
            return len(gone)

    def adopt(self, agent: str) -> None:
        """Keep for good what was staged for an agent."""
        for digest, kept in self._live(agent).items():
            self._contents[agent][digest] = _Kept(kept.data, kept.written_ms, staged=False)

    def has(self, agent: str, digests: Collection[bytes]) -> bool:
        live = self._live(agent)
        return all(digest in live for digest in digests)

    def erase(self, agent: str) -> None:
        self._contents.pop(agent, None)

    def _now(self) -> int:
        return int(self._storage.clock() * 1000)

    def _live(self, agent: str) -> dict[bytes, _Kept]:
        oldest = self._now() - STAGED_MS
        found = self._contents.get(agent, {})
        return {digest: kept for digest, kept in found.items() if not kept.staged or kept.written_ms > oldest}
