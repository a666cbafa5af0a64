"""What no library on redis-py can beat by much: the same bytes, sent and read by redis-py and hiredis alone."""

from __future__ import annotations

from typing import Any, Final, cast

import redis
from attrs import define, field

import msgpack
from duramen.actors import AgentSystem
from duramen.events.codec.event_codec import DIGEST_SIZE

from .figures import Kind, Sample
from .rounds import Wrong, timed, timed_calls
from .servers import Server
from .work import Work

__all__ = ["AwaitedPushes", "PipelinedPushes", "RangeAndUnpack", "stored_item"]

_BATCH: Final = 512
_CHANNEL: Final = "floor:channel"


def stored_item(payload: int) -> bytes:
    """The bytes that duramen stores for one mutation of this size."""
    work = Work(1, payload)
    with AgentSystem.open("memory://") as system:
        agent = system.spawn("bench/agent-0")
        for _, key, text in work.steps(1):
            agent.set(key, text)
        page = system.log.read("bench/agent-0", 2, 1)
        assert page is not None
        return page.items[0]


@define(kw_only=True)
class PipelinedPushes:
    """RPUSH and PUBLISH of each mutation, 512 mutations in a pipeline, one pipeline after the other."""

    server: Server
    agents: int
    mutations: int
    payload: int
    name: str
    note: str = "batches of 512 mutations, one connection, no transaction"
    kind: Kind = "floor"
    prefix: str = "floor:log"
    _client: redis.Redis = field(init=False)
    _item: bytes = b""
    _pushed: int = 0

    def prepare(self) -> None:
        self._client = self.server.client()
        self._item = stored_item(self.payload)

    def run(self) -> Sample:
        keys = [f"{self.prefix}:{number}" for number in range(self.agents)]
        self._pushed += self.mutations
        return timed(lambda: self._push(keys), self.server)

    def _push(self, keys: list[str]) -> int:
        item, count = self._item, len(keys)
        for start in range(0, self.mutations, _BATCH):
            pipeline = self._client.pipeline(transaction=False)
            for number in range(start, min(start + _BATCH, self.mutations)):
                pipeline.rpush(keys[number % count], item)
                pipeline.publish(_CHANNEL, item)
            pipeline.execute()
        return self.mutations

    def verify(self) -> None:
        lengths = [cast("int", self._client.llen(f"{self.prefix}:{number}")) for number in range(self.agents)]
        if sum(lengths) != self._pushed:
            raise Wrong(f"the lists hold {sum(lengths)} items, {self._pushed} were pushed")

    def close(self) -> None:
        self._client.close()


@define(kw_only=True)
class AwaitedPushes:
    """One RPUSH after the other, each awaited."""

    server: Server
    calls: int
    payload: int
    name: str
    note: str = "one connection, one call after the other"
    kind: Kind = "floor"
    _client: redis.Redis = field(init=False)
    _item: bytes = b""
    _pushed: int = 0

    def prepare(self) -> None:
        self._client = self.server.client()
        self._item = stored_item(self.payload)

    def run(self) -> Sample:
        self._pushed += self.calls
        push, item = self._client.rpush, self._item
        return timed_calls([lambda: push("floor:awaited", item)] * self.calls, self.server)

    def verify(self) -> None:
        if self._client.llen("floor:awaited") != self._pushed:
            raise Wrong("the list does not hold what was pushed")

    def close(self) -> None:
        self._client.close()


@define(kw_only=True)
class RangeAndUnpack:
    """Read a whole log and unpack each event, checking and folding nothing."""

    server: Server
    key: str
    events: int
    name: str = "redis-py: LRANGE + msgpack.unpackb"
    note: str = "the whole log at once; no digest checked, nothing folded"
    kind: Kind = "floor"
    _client: redis.Redis = field(init=False)
    _found: int = 0

    def prepare(self) -> None:
        self._client = self.server.client()

    def run(self) -> Sample:
        return timed(self._read, self.server)

    def _read(self) -> int:
        items = cast("list[bytes]", self._client.lrange(self.key, 0, -1))
        unpacked: list[Any] = [msgpack.unpackb(item[DIGEST_SIZE:]) for item in items]
        self._found = len(unpacked)
        return self._found

    def verify(self) -> None:
        if self._found != self.events:
            raise Wrong(f"{self._found} events were read, the log has {self.events}")

    def close(self) -> None:
        self._client.close()
