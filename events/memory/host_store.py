"""Hosts, owners and channels in memory, answered as the server's scripts answer them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal
from uuid import uuid4

from attrs import evolve

from ..log import (
    ClaimAnswer,
    Head,
    HostRecord,
    HostState,
    Located,
    MessagePublisher,
    MessageStream,
    Owner,
    Unfinished,
    UnfinishedPage,
    owner_of,
)
from ..model import root_of
from .partition import Partition
from .storage import MemoryStorage
from .stream import MemoryStream

_MOST: Final = 100_000
"""Messages that wait for a stream that does not receive; later ones are lost."""


class MemoryHostStore:
    """A `HostStore` of one `MemoryLog`, under the log's own lock."""

    def __init__(self, storage: MemoryStorage, *, secret: bytes | None) -> None:
        self.secret = secret or secrets.token_bytes(32)
        self._storage = storage
        self._lock = storage.lock
        self._clock = storage.clock
        self._hosts: dict[str, HostRecord] = {}
        self._content: dict[str, tuple[bytes, float]] = {}
        self._streams: dict[str, list[MemoryMessages]] = {}

    # -- hosts -----------------------------------------------------------------------------------------------------

    def join(self, record: HostRecord) -> None:
        with self._lock:
            self._hosts.setdefault(record.host, record)

    def beat(self, host: str, load: int) -> int | None:
        with self._lock:
            record = self._hosts.get(host)
            if record is None or record.has_ended:
                return None
            self._hosts[host] = record = evolve(record, beat=record.beat + 1, load=load)
            return record.beat

    def time(self) -> int:
        return int(self._clock() * 1_000_000)

    def set_state(self, host: str, state: Literal["draining", "closed"]) -> bool:
        with self._lock:
            record = self._hosts.get(host)
            if record is None or record.state == "buried":
                return False
            if state == "closed" and not record.has_ended:
                self._end(record, "closed")
            elif record.state == "up":
                self._hosts[host] = evolve(record, state=state)
            return True

    def announce(self, host: str, agent_types: Sequence[str]) -> None:
        with self._lock:
            if host in self._hosts:
                self._hosts[host] = evolve(self._hosts[host], agent_types=tuple(agent_types))

    def hosts(self) -> list[HostRecord]:
        with self._lock:
            return [self._hosts[host] for host in sorted(self._hosts)]

    def find(self, host: str) -> HostRecord | None:
        with self._lock:
            return self._hosts.get(host)

    def bury(self, host: str, beat: int) -> bool:
        with self._lock:
            record = self._hosts.get(host)
            if record is None or record.has_ended:
                return True
            if record.beat != beat:
                return False
            self._end(record, "buried")
            return True

    def forget(self, hosts: Collection[str]) -> None:
        with self._lock:
            for host in hosts:
                if host in self._hosts and self._hosts[host].has_ended:
                    del self._hosts[host]

    def _end(self, record: HostRecord, state: HostState) -> None:
        self._hosts[record.host] = evolve(record, state=state, ended_at=int(self._clock()))

    # -- owners ----------------------------------------------------------------------------------------------------

    def owner(self, agent: str) -> tuple[Owner, Head | None]:
        found = self.locate(agent)
        return found.owner, found.head

    def locate(self, agent: str) -> Located:
        with self._lock:
            part = self._storage.part_of(agent)
            return Located(_owner_in(part, agent), part.heads.get(agent), part.directory.get(agent))

    def locate_all(self, agents: Sequence[str]) -> list[Located]:
        return [self.locate(agent) for agent in agents]

    def claim_all(self, claims: Sequence[tuple[str, Owner, Head]], host: str, now: int) -> list[ClaimAnswer]:
        return [self.claim(agent, seen, head, host, now) for agent, seen, head in claims]

    def claim(self, agent: str, seen: Owner, head: Head, host: str, now: int) -> ClaimAnswer:
        """The same checks, in the same order, as `hosts/claim.lua`."""
        with self._lock:
            part = self._storage.part_of(agent)
            owner, there = _owner_in(part, agent), part.heads.get(agent)
            mine = owner.host == host
            if there is None or (there.seq, there.digest) != (head.seq, head.digest) or not (mine or owner == seen):
                return ClaimAnswer(False, owner, there)
            fence = f"{int(head.fence.partition(':')[0]) + 1}:{host}"
            if not (mine and there.fence == fence):
                if there.fence != head.fence:
                    return ClaimAnswer(False, owner, there)
                if not mine:
                    owner = _give_tree(part, agent, Owner(owner.epoch + 1, host))
                part.heads[agent] = there = evolve(there, fence=fence, claimed_at=now)
            return ClaimAnswer(True, owner, there, len(self._storage.items(agent)))

    def take(self, agent: str, seen: Owner, host: str) -> Owner:
        with self._lock:
            part = self._storage.part_of(agent)
            owner = _owner_in(part, agent)
            if owner.host == host or owner != seen:
                return owner
            return _give_tree(part, agent, Owner(owner.epoch + 1, host))

    def release(self, agent: str, held: Owner) -> bool:
        with self._lock:
            part = self._storage.part_of(agent)
            owner = _owner_in(part, agent)
            if owner == held:
                owner = _give_tree(part, agent, Owner(held.epoch))
            return owner == Owner(held.epoch)

    def unfinished(
        self, partition: int, limit: int, *, after: Unfinished | None = None, until_ms: int | None = None
    ) -> UnfinishedPage:
        with self._lock:
            until = int(self._clock() * 1000) if until_ms is None else until_ms
            part = self._storage.parts[partition]
            last = (-1, b"") if after is None else (after.due_ms, after.agent.encode())
            rows = sorted((due, agent.encode()) for agent, due in part.unfinished.items())
            rows = [row for row in rows if row > last][:limit]
            later = next((due for due, _ in rows if due > until), None)
            found = [Unfinished(agent.decode(), due, _owner_in(part, agent.decode())) for due, agent in rows]
            return UnfinishedPage(until, [each for each in found if each.due_ms <= until], later)

    # -- channels --------------------------------------------------------------------------------------------------

    def publish(self, host: str, message: bytes) -> int:
        streams = list(self._streams.get(host, ()))
        for stream in streams:
            stream.hear(message)
        return len(streams)

    def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for host, message in messages:
            self.publish(host, message)

    def publisher(self) -> MessagePublisher:
        return MemoryPublisher(self)

    def listen(self, host: str) -> MessageStream:
        streams = self._streams.setdefault(host, [])
        stream = MemoryMessages(streams.remove)
        streams.append(stream)
        return stream

    def put_content(self, content: bytes, ttl_ms: int) -> str:
        content_id = uuid4().hex
        self.store_content(content_id, content, ttl_ms)
        return content_id

    def store_content(self, content_id: str, content: bytes, ttl_ms: int) -> None:
        """Store content under an id of the caller's."""
        with self._lock:
            now = self._clock()
            self._content = {key: value for key, value in self._content.items() if value[1] > now}
            self._content[content_id] = content, now + ttl_ms / 1000

    def get_content(self, content_id: str) -> bytes | None:
        with self._lock:
            content, expires = self._content.get(content_id, (None, 0.0))
            return content if expires > self._clock() else None


def _owner_in(part: Partition, agent: str) -> Owner:
    return owner_of(part.owners.get(root_of(agent)))


def _give_tree(part: Partition, agent: str, owner: Owner) -> Owner:
    part.owners[root_of(agent)] = owner.text.encode()
    return owner


class MemoryPublisher:
    """A `MessagePublisher` of a `MemoryHostStore`. Loses nothing."""

    is_ready = True
    is_waiting = False
    losses = 0

    def __init__(self, store: MemoryHostStore) -> None:
        self._store = store

    def publish(
        self, messages: Sequence[tuple[str, bytes]], contents: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> None:
        for content_id, content in contents:
            self._store.store_content(content_id, content, ttl_ms)
        self._store.publish_all(messages)

    def collect(self, timeout: float) -> None:
        """Does nothing: there is no connection."""

    def close(self) -> None:
        """Does nothing: there is no connection."""


class MemoryMessages(MemoryStream):
    """A `MessageStream` of a `MemoryHostStore`, which loses nothing that is received in time."""

    def __init__(self, on_close: Callable[[MemoryMessages], None]) -> None:
        super().__init__()
        self._on_close = on_close
        self._waiting: list[bytes] = []

    @property
    def subscriptions(self) -> int:
        return 1

    def hear(self, message: bytes) -> None:
        """Add a message. Called by the publisher's thread."""
        with self._changed:
            if not self._closed and len(self._waiting) < _MOST:
                self._waiting.append(message)
                self._changed.notify_all()

    def receive(self, timeout: float | None) -> list[bytes]:
        with self._changed:
            self._wait(lambda: self._waiting, timeout)
            messages, self._waiting = self._waiting, []
            return messages

    def _stop(self) -> None:
        self._on_close(self)
        with self._changed:
            self._waiting = []
