"""The consumer store of a log in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from attrs import evolve

from ..log import LIVE, NEXT, ConsumerRecord, ConsumerRequest, Saved, Slot, Stored, fenced, pack_record, unpack_record

V = TypeVar("V")

_SLOTS: Final[tuple[Slot, ...]] = (LIVE, NEXT)


class MemoryConsumerStore:
    """A `ConsumerStore` of this process, under the same contract suite as `RedisConsumerStore`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[tuple[str, Slot], bytes] = {}
        self._blobs: dict[tuple[str, Slot], bytes] = {}
        self._entries: dict[tuple[str, Slot], dict[str, bytes]] = {}
        self._requests: dict[str, ConsumerRequest] = {}

    def find(self, name: str) -> Stored:
        with self._lock:
            return Stored(self._record(name, LIVE), self._record(name, NEXT), self._requests.get(name))

    def claim(self, fresh: ConsumerRecord, owner: str, *, replace: bool = False) -> ConsumerRecord | None:
        with self._lock:
            name, slot = fresh.name, fresh.slot
            found = self._record(name, slot)
            epoch = 0 if found is None else _epoch(found)
            same = found is not None and found.form == fresh.form
            if found is not None and same and _owner(found) == owner and not (replace and found.revision):
                return found
            if found is not None and not same and slot != NEXT and not replace:
                return None
            if not same or replace:
                found = None
            if found is None:
                self._remove(name, slot)
                found = evolve(fresh, revision=0)
            return self._store(evolve(found, token=f"{epoch + 1}:{owner}"))

    def blob(self, name: str, slot: Slot) -> bytes | None:
        with self._lock:
            return self._blobs.get((name, slot))

    def entries(self, name: str, slot: Slot) -> Iterator[tuple[str, bytes]]:
        with self._lock:
            found = list(self._entries.get((name, slot), {}).items())
        yield from found

    def save(
        self,
        record: ConsumerRecord,
        *,
        blob: bytes | None = None,
        changes: Mapping[str, bytes | None] | None = None,
        done: ConsumerRequest | None = None,
    ) -> Saved:
        with self._lock:
            name = record.name
            place: tuple[str, Slot] = (name, record.slot)
            found = self._record(name, record.slot)
            if found is None or found.token != record.token:
                raise fenced(name, found)
            if found.revision != record.revision:
                return Saved(False, found.revision, self._requests.get(name))
            if blob is not None:
                self._blobs[place] = blob
            entries = self._entries.setdefault(place, {})
            for key, value in (changes or {}).items():
                if value is None:
                    entries.pop(key, None)
                else:
                    entries[key] = value
            self._store(evolve(record, revision=record.revision + 1))
            if done is not None and self._requests.get(name) == done:
                del self._requests[name]
            return Saved(True, record.revision + 1, self._requests.get(name))

    def switch(self, record: ConsumerRecord) -> ConsumerRecord:
        with self._lock:
            name = record.name
            found, live = self._record(name, NEXT), self._record(name, LIVE)
            if found is None or found.token != record.token:
                raise fenced(name, found)
            epoch = max(_epoch(found), 0 if live is None else _epoch(live))
            _move(self._blobs, name)
            _move(self._entries, name)
            self._remove(name, NEXT)
            return self._store(evolve(found, slot=LIVE, token=f"{epoch + 1}:{_owner(found)}"))

    def discard(self, record: ConsumerRecord) -> bool:
        with self._lock:
            found = self._record(record.name, NEXT)
            is_its_own = found is not None and found.token == record.token
            if is_its_own:
                self._remove(record.name, NEXT)
            return is_its_own

    def request(self, name: str, request: ConsumerRequest) -> bool:
        with self._lock:
            return self._leave_request(name, request)

    def replace_request(self, name: str, before: ConsumerRequest | None, request: ConsumerRequest) -> bool:
        with self._lock:
            return self._requests.get(name) == before and self._leave_request(name, request)

    def _leave_request(self, name: str, request: ConsumerRequest) -> bool:
        known = (name, LIVE) in self._records or (name, NEXT) in self._records
        if known:
            self._requests[name] = request
        return known

    def remove(self, name: str) -> bool:
        with self._lock:
            known = (name, LIVE) in self._records or (name, NEXT) in self._records
            for slot in _SLOTS:
                self._remove(name, slot)
            self._requests.pop(name, None)
            return known

    def records(self) -> list[ConsumerRecord]:
        with self._lock:
            return [unpack_record(name, slot, stored) for (name, slot), stored in sorted(self._records.items())]

    def _record(self, name: str, slot: Slot) -> ConsumerRecord | None:
        stored = self._records.get((name, slot))
        return None if stored is None else unpack_record(name, slot, stored)

    def _store(self, record: ConsumerRecord) -> ConsumerRecord:
        self._records[(record.name, record.slot)] = pack_record(record)
        return record

    def _remove(self, name: str, slot: Slot) -> None:
        self._records.pop((name, slot), None)
        self._blobs.pop((name, slot), None)
        self._entries.pop((name, slot), None)


def _epoch(record: ConsumerRecord) -> int:
    return int(record.token.partition(":")[0])


def _owner(record: ConsumerRecord) -> str:
    return record.token.partition(":")[2]


def _move(stored: dict[tuple[str, Slot], V], name: str) -> None:
    moved = stored.pop((name, NEXT), None)
    stored.pop((name, LIVE), None)
    if moved is not None:
        stored[(name, LIVE)] = moved
