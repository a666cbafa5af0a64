"""The feeds of a log, read over connections that another process has opened and lent."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

from ..codec import PLAIN, DigestChain
from ..log import FeedAccess, FeedPage, Keys, ReadAhead, Span, SpanEvents
from ..redis import RedisFeed
from ..redis.client import RedisClient, connection_settings


class BorrowedFeed:
    """A `FeedSource` on lent connections. Used by one thread.

    Raises Unavailable as soon as a connection is lost: it cannot be opened again here.
    """

    def __init__(self, access: FeedAccess) -> None:
        pool = redis.ConnectionPool(
            connection_class=_connections(access.descriptors),
            redis_connect_func=_begin,
            socket_timeout=access.reply_timeout,
            **connection_settings(),
        )
        self._feed = RedisFeed(RedisClient(pool, retry_seconds=0.0), Keys(access.namespace), access.partitions)

    @property
    def chain(self) -> DigestChain:
        return PLAIN

    def feed_page(self, partition: int, position: int, limit: int) -> FeedPage:
        return self._feed.pages([(partition, position, limit)])[0]

    def gather(self, partition: int, spans: Sequence[Span], most_bytes: int) -> list[SpanEvents]:
        return self._feed.gather([(partition, spans)], most_bytes)[0] if spans else []

    def erased_until(self, partition: int, agent: str) -> int:
        return self._feed.erased_until(partition, agent)

    def read_ahead(self, partition: int) -> ReadAhead:
        return self._feed.read_ahead(partition)


def _connections(descriptors: Sequence[int]) -> Any:
    """A class of redis-py's connections that start with a lent socket; once connected, its kind makes no difference."""
    left = deque(descriptors)

    class Borrowed(redis.UnixDomainSocketConnection):
        def _connect(self) -> socket.socket:
            if not left:
                raise OSError("all lent connections are in use")
            sock = socket.socket(fileno=left.popleft())
            sock.settimeout(self.socket_timeout)
            return sock

    return Borrowed


def _begin(connection: Any) -> None:
    """In place of logging in, and of choosing a database."""
    connection._parser.on_connect(connection)
