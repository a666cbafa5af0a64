"""Where the logs of the contract suite live: opened as users do, and looked at, or damaged, behind their back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast
from uuid import uuid4

import redis
from attrs import evolve

import msgpack
from duramen.events.log.event_log import EventLog
from duramen.events.log.keys import Keys
from duramen.events.log.notices import Notice
from duramen.events.log.records import Head
from duramen.events.memory.log import MemoryLog
from duramen.events.model.event import Granularity
from duramen.events.model.limits import Limits
from duramen.events.redis.client import ClusterNodes, slot_of
from duramen.events.redis.client.connection import pool_of_url
from duramen.events.redis.log import RedisLog
from waiting import eventually

__all__ = ["LEVELS", "MemoryPlace", "Place", "ServerPlace"]

LEVELS = tuple(Granularity)


class Place(Protocol):
    """One namespace. `open` gives a log on it, again and again; the rest goes behind the log's back."""

    keys: Keys

    def open(self, *, partitions: int = 16, limits: Limits | None = None) -> EventLog: ...

    def items(self, log: EventLog, agent: str) -> list[bytes]:
        """The raw items of an agent's list, without a look at its head."""
        ...

    def keep(self, log: EventLog, agent: str, items: list[bytes]) -> None:
        """Put other items in the place of an agent's list; the head stays."""
        ...

    def write_head(self, log: EventLog, agent: str, head: Head | None) -> None:
        """Put another head in the place of an agent's, or take it away."""
        ...

    def erase(self, log: EventLog, key: str) -> None:
        """Delete a snapshot or a checkpoint."""
        ...

    def write_feed(self, log: EventLog, partition: int, change: Callable[[list[Any]], object]) -> None:
        """Change the list of a partition's feed by other means than the log."""
        ...

    def let_expire(self, log: EventLog, key: str, ttl_ms: int) -> None:
        """Return when a value of this time to live is gone; fail if it stays."""
        ...

    def notices(self, log: EventLog, partition: int) -> Any:
        """A context that hears a partition's notices: what it gives returns those that came up to its call."""
        ...

    def close(self) -> None: ...


class MemoryPlace:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.keys = Keys("memory")
        self._log: MemoryLog | None = None

    def open(self, *, partitions: int = 16, limits: Limits | None = None) -> EventLog:
        # To open it again is to be given the same object: it lives as long as the process holds it.
        if self._log is None:
            self._log = MemoryLog(partitions=partitions, limits=limits, clock=lambda: self.now)
        return self._log

    @property
    def log(self) -> MemoryLog:
        assert self._log is not None
        return self._log

    def items(self, log: EventLog, agent: str) -> list[bytes]:
        return list(self.log._storage.logs.get(log.log_key(agent), ()))

    def keep(self, log: EventLog, agent: str, items: list[bytes]) -> None:
        if items:
            self.log._storage.logs[log.log_key(agent)] = list(items)
        else:
            self.log._storage.logs.pop(log.log_key(agent), None)

    def write_head(self, log: EventLog, agent: str, head: Head | None) -> None:
        heads = self.log._storage.parts[log.partition_of(agent)].heads
        if head is None:
            heads.pop(agent, None)
        else:
            heads[agent] = evolve(head)

    def erase(self, log: EventLog, key: str) -> None:
        self.log._storage.values.pop(key, None)

    def write_feed(self, log: EventLog, partition: int, change: Callable[[list[Any]], object]) -> None:
        change(self.log._storage.parts[partition].feed)

    def let_expire(self, log: EventLog, key: str, ttl_ms: int) -> None:
        self.now += ttl_ms / 1000
        assert log.exists([key]) == [False]

    @contextmanager
    def notices(self, log: EventLog, partition: int) -> Iterator[Callable[[], list[Notice]]]:
        heard: list[Notice] = []
        stop = self.log.listen(heard.append)

        def take() -> list[Notice]:
            taken = [notice for notice in heard if notice.partition == partition]
            heard.clear()
            return taken

        try:
            yield take
        finally:
            stop()

    def close(self) -> None:
        self._log = None


class ServerPlace:
    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"contract-{uuid4().hex}"
        self.keys = Keys(self.namespace)
        self.client = _client_of(url)
        self._opened: list[RedisLog] = []

    def open(self, *, partitions: int = 16, limits: Limits | None = None) -> EventLog:
        log = RedisLog(
            pool_of_url(self.url),
            namespace=self.namespace,
            partitions=partitions,
            limits=limits,
        )
        self._opened.append(log)
        return log

    def items(self, log: EventLog, agent: str) -> list[bytes]:
        found: Any = self.client.lrange(log.log_key(agent), 0, -1)
        return list(found)

    def keep(self, log: EventLog, agent: str, items: list[bytes]) -> None:
        pipeline = self.client.pipeline(transaction=True)
        pipeline.delete(log.log_key(agent))
        if items:
            pipeline.rpush(log.log_key(agent), *items)
        pipeline.execute()

    def write_head(self, log: EventLog, agent: str, head: Head | None) -> None:
        heads = self.keys.heads(log.partition_of(agent))
        if head is None:
            self.client.hdel(heads, agent)
            return
        row = [head.seq, head.base, head.digest, head.fence, head.claimed_at, head.updated_at]
        packed: Any = msgpack.packb(row, use_bin_type=False)
        self.client.hset(heads, agent, packed)

    def erase(self, log: EventLog, key: str) -> None:
        self.client.delete(key)

    def write_feed(self, log: EventLog, partition: int, change: Callable[[list[Any]], object]) -> None:
        found: Any = self.client.lrange(self.keys.feed(partition), 0, -1)
        change(found)
        pipeline = self.client.pipeline(transaction=True)
        pipeline.delete(self.keys.feed(partition))
        if found:
            pipeline.rpush(self.keys.feed(partition), *found)
        pipeline.execute()

    def let_expire(self, log: EventLog, key: str, ttl_ms: int) -> None:
        eventually(lambda: log.exists([key]) == [False], ttl_ms / 1000 + 10, what="expired")

    @contextmanager
    def notices(self, log: EventLog, partition: int) -> Iterator[Callable[[], list[Notice]]]:
        channels = {self.keys.channel(partition, level).encode(): level for level in LEVELS}
        with self.subscribed(*channels) as subscription:
            yield lambda: self._heard(subscription, channels, partition)

    @property
    def _is_cluster(self) -> bool:
        return isinstance(cast("object", self.client), redis.RedisCluster)

    def publish(self, channel: bytes, message: bytes) -> None:
        self.client.execute_command("SPUBLISH" if self._is_cluster else "PUBLISH", channel, message)

    def call_each(self, *command: Any) -> None:
        """Run a command on each server."""
        options = {"target_nodes": redis.RedisCluster.PRIMARIES} if self._is_cluster else {}
        self.client.execute_command(*command, **options)

    def count_calls(self, command: str) -> int:
        """How often all servers have run a command since their statistics were reset."""
        options: Any = {"target_nodes": redis.RedisCluster.PRIMARIES} if self._is_cluster else {}
        found: Any = self.client.info("commandstats", **options)
        servers: Any = found.values() if self._is_cluster else [found]
        return sum(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"] for stats in servers)

    def url_of(self, user: str) -> str:
        """The url for a user, whose password is `pw`."""
        return self.url.replace("://", f"://{user}:pw@")

    def pool_of(self, pool: Any, partition: int) -> Any:
        """The pool of connections to the server that has a partition."""
        if not isinstance(pool, ClusterNodes):
            return pool
        pool.refresh()
        return pool.pool(pool.owner_of(slot_of(self.keys.heads(partition).encode())))

    @contextmanager
    def subscribed(self, *channels: bytes) -> Iterator[Any]:
        """A subscription of redis-py's to channels of one partition, confirmed."""
        client: Any = self.client
        if self._is_cluster:
            node = client.get_node_from_key(channels[0].decode())
            listener = redis.Redis(host=node.host, port=node.port)
        else:
            listener = redis.Redis.from_url(self.url)
        with listener, listener.pubsub() as subscription:
            (subscription.ssubscribe if self._is_cluster else subscription.subscribe)(*channels)
            for _ in channels:
                assert subscription.get_message(timeout=10) is not None
            yield subscription

    def _heard(self, subscription: Any, channels: dict[bytes, Granularity], partition: int) -> list[Notice]:
        """What came up to now. A last word of our own ends it: one connection hears all in the order published."""
        last = uuid4().hex.encode()
        self.publish(next(iter(channels)), last)
        heard: list[Notice] = []
        while True:
            message = subscription.get_message(timeout=10)
            assert message is not None, "a message of our own did not arrive"
            if message["data"] == last:
                return heard
            heard.append(_notice(partition, channels[message["channel"]], message["data"]))

    def close(self) -> None:
        for log in self._opened:
            log.close()
        self.client.close()


def _client_of(url: str) -> redis.Redis:
    """A client of redis-py's. That for a cluster has the same methods, as far as they are used here."""
    if not url.startswith("redis+cluster:"):
        return redis.Redis.from_url(url)
    host, port = url.removeprefix("redis+cluster://").split(",")[0].split(":")
    return cast("redis.Redis", redis.RedisCluster(host=host, port=int(port)))


def _notice(partition: int, level: Granularity, message: bytes) -> Notice:
    previous, position, rows, before, levels = msgpack.unpackb(message, raw=True)
    events = [(agent.decode(), seq, items) for agent, seq, items in rows] if rows else None
    return Notice(partition, level, previous, position, events, before, levels)
