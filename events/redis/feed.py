"""The feed of a partition on a server, and the events of many agents that it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgpack

from ..errors import CorruptEvent
from ..log import FeedPage, Keys, Span, SpanEvents, feed_trimmed
from .client import RedisClient, Script
from .read_ahead import RedisReadAhead

__all__ = ["RedisFeed"]

_TYPES: Final[list[type]] = [str, int, int, int]
_ENTRY: Final = 0x90 | len(_TYPES)
"""The byte an entry begins with: an array of so many."""
_FIRST: Final[itemgetter[int]] = itemgetter(0)
_TRIES: Final = 100


class RedisFeed:
    """Reads feeds. Thread-safe.

    A list has no memory of what was trimmed from it; the feed's base has. A base only grows, and grows together with
    the trimming. So one that was seen earlier, and is still the same behind a reading, was the same during it.
    """

    def __init__(self, server: RedisClient, keys: Keys, partitions: int) -> None:
        self._server = server
        self._keys = keys
        self._bases = [0] * partitions
        self._gather = Script("gather", read_only=True)

    def pages(self, asked: Sequence[tuple[int, int, int]]) -> list[FeedPage]:
        """Of each partition at most so many entries behind a position, and the feed's end. Raises Trimmed."""
        for _ in range(_TRIES):
            bases = [self._bases[partition] for partition, _, _ in asked]
            commands: list[Sequence[bytes]] = []
            for (partition, position, limit), base in zip(asked, bases, strict=True):
                key, start = self._keys.feed(partition).encode(), max(0, position - base)
                page = (b"LRANGE", key, b"%d" % start, b"%d" % (start + max(1, limit) - 1))
                commands += [page, (b"LLEN", key), self._base_command(partition)]
            replies = self._server.execute_all("read the feed", commands)
            now = list(map(_base, replies[2::3]))
            for (partition, _, _), base in zip(asked, now, strict=True):
                self._bases[partition] = base
            if now != bases:
                continue  # the server was asked for other places than those that were meant
            for (partition, position, _), base in zip(asked, bases, strict=True):
                if position < base:
                    raise feed_trimmed(partition, position, base)
            found = zip(replies[::3], replies[1::3], bases, strict=True)
            return [FeedPage(_fields(rows), base + length) for rows, length, base in found]
        raise CorruptEvent("a feed has another base at each look")

    def positions(self) -> list[int]:
        """Where the feed of each partition ends; in between it may have grown."""
        commands: list[Sequence[bytes]] = []
        for partition in range(len(self._bases)):
            length = (b"LLEN", self._keys.feed(partition).encode())
            # The base on both sides: a feed that is trimmed in between would seem to end elsewhere.
            commands += [self._base_command(partition), length, self._base_command(partition)]
        for _ in range(_TRIES):
            replies = self._server.execute_all("look where the feeds end", commands)
            if replies[::3] == replies[2::3]:
                return [_base(stored) + length for stored, length in zip(replies[::3], replies[1::3], strict=True)]
        raise CorruptEvent("a feed has another base at each look")

    def gather(self, asked: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        """Events of these spans of each partition, up to so many bytes of each."""
        k = self._keys
        calls: list[tuple[Sequence[str], Sequence[bytes]]] = []
        for partition, spans in asked:
            keys = [k.heads(partition), k.bases(partition), *[k.log(partition, span.agent) for span in spans]]
            arguments = [b"%d" % most_bytes]
            for span in spans:
                arguments += (span.agent.encode(), b"%d" % span.from_seq, b"%d" % span.count)
            calls.append((keys, arguments))
        found: list[Any] = self._server.run_scripts(self._gather, calls, "read events")
        return [_stretches(spans, rows) for (_, spans), rows in zip(asked, found, strict=True)]

    def read_ahead(self, partition: int) -> RedisReadAhead:
        """A new one, for one reader."""
        return RedisReadAhead(self._server, self._keys, partition, _fields)

    def _base_command(self, partition: int) -> tuple[bytes, ...]:
        return (b"HMGET", self._keys.heads(partition).encode(), b"base")


def _base(stored: list[bytes | None]) -> int:
    return int(stored[0] or 0)


def _stretches(spans: Sequence[Span], rows: Sequence[Any]) -> list[SpanEvents]:
    return [
        SpanEvents(-1, -1, span.from_seq, []) if row is None else SpanEvents(*row)
        for span, row in zip(spans, rows, strict=False)
    ]


def _fields(stored: Sequence[bytes]) -> list[Any]:
    """Of entries of a feed, as `FeedPage` has them. Raises CorruptEvent."""
    joined = b"".join([entry[1:] for entry in stored])
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(joined) or 1)
    unpacker.feed(joined)
    try:
        fields: list[Any] = list(unpacker)
    except (ValueError, TypeError):
        fields = []
    sound = all(stored) and set(map(_FIRST, stored)) <= {_ENTRY} and list(map(type, fields)) == _TYPES * len(stored)
    if not sound:
        raise CorruptEvent("an entry of the feed is damaged; restore it from a backup")
    return fields
