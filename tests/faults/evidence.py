"""What stands on a server, read past the library: the oracle of the fault tests."""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import Any
from uuid import uuid4

import redis
from attrs import define, field, frozen

import msgpack
from servers import Server

__all__ = ["Evidence", "StoredEvent"]

_DIGEST = 16


@frozen
class StoredEvent:
    """One item of a raw list, decoded here and not by the library."""

    seq: int
    type: str
    data: dict[str, Any]
    command_id: str | None
    digest: bytes


@frozen
class StoredLog:
    """An agent's keys as they stood at one moment."""

    head: list[Any] | None
    """[seq, base, digest, fence, claimed at, updated at]"""
    items: list[bytes]
    kept: list[Any] | None
    """[seq, digest] of where it was trimmed."""
    base_state: bytes | None


def _row(stored: bytes | None) -> list[Any] | None:
    return None if stored is None else list(msgpack.unpackb(stored, raw=True))


@define
class Evidence:
    """Reads one namespace of a server over a connection of its own."""

    server: Server
    namespace: str = field(factory=lambda: f"fault-{uuid4().hex}")

    @property
    def client(self) -> Any:
        """A client for this look: made anew, since the servers of these tests come and go."""
        client: redis.Redis = self.server.client()
        return client

    def key(self, agent: str, kind: str = "log") -> str:
        root = "/".join(agent.split("/")[:2])
        partitions = int(self.client.hget(f"duramen:{{{self.namespace}}}", "partitions"))
        number = int.from_bytes(blake2b(root.encode(), digest_size=8).digest(), "big") % partitions
        tag = f"duramen:{{{self.namespace}:{number:02d}}}"
        if kind in ("heads", "directory", "feed"):
            return f"{tag}:{kind}"
        return f"{tag}:{kind}:{blake2b(agent.encode(), digest_size=16).hexdigest()}"

    def items(self, agent: str) -> list[bytes]:
        found: list[bytes] = self.client.lrange(self.key(agent), 0, -1)
        return found

    def head(self, agent: str) -> list[Any] | None:
        """[seq, base, digest, fence, claimed at, updated at]"""
        return _row(self.client.hget(self.key(agent, "heads"), agent))

    def at_once(self, agent: str) -> StoredLog:
        """All that is stored of an agent, at one moment: others may write and trim meanwhile."""
        client, heads = self.client, self.key(agent, "heads")
        log, base = self.key(agent), self.key(agent, "base")
        while True:  # and not one transaction: a server that is full refuses it
            head, items = client.hget(heads, agent), client.lrange(log, 0, -1)
            kept, state = client.hget(heads.removesuffix("heads") + "bases", agent), client.get(base)
            if client.hget(heads, agent) == head:
                return StoredLog(_row(head), items, _row(kept), state)

    def events(self, agent: str) -> list[StoredEvent]:
        """All events, after a look at what always holds: head and list fit, and every digest continues the chain."""
        stored = self.at_once(agent)
        items, head = stored.items, stored.head
        if head is None:
            assert items == [], f"a list without a head: {agent}"
            return []
        assert head[1] + len(items) == head[0], f"head and list of {agent} do not fit: {head[:2]}, {len(items)} items"
        found: list[StoredEvent] = []
        digest = bytes(_DIGEST)
        for seq, item in enumerate(items, 1):
            expected = sha256(digest + item[_DIGEST:]).digest()[:_DIGEST]
            digest = item[:_DIGEST]
            assert digest == expected, f"event {seq} of {agent} does not continue the chain"
            fields = msgpack.unpackb(item[_DIGEST:], raw=False)
            command = None if fields[6] is None else fields[6][0]
            found.append(StoredEvent(seq, fields[0], fields[4], command, digest))
        assert digest == head[2], f"the head of {agent} has another digest than its last event"
        return found

    def sets(self, agent: str) -> list[tuple[str, Any]]:
        """Path and value of each `memory_set`, in order."""
        return [(event.data["path"], event.data["value"]) for event in self.events(agent) if event.type == "memory_set"]

    def memory(self, agent: str) -> dict[str, Any]:
        """The fold of the log, for agents that were only spawned and given top-level items."""
        state: dict[str, Any] = {}
        for event in self.events(agent):
            if event.type == "spawned":
                state = {**state, **event.data["memory"]}
            else:
                assert event.type == "memory_set", event.type
                state[event.data["path"]] = event.data["value"]
        return state
