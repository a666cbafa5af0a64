"""The feed of a partition on a server, and the events of many agents that it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgpack

from ..errors import CorruptEvent
from ..log import FeedPage, FeedRequest, Keys, Span, SpanEvents, erasure_field, feed_damaged, feed_trimmed
from .client import RedisClient, Script
from .read_ahead import MARKS, RedisReadAhead

_TYPES: Final[list[type]] = [str, int, int, int]
_ENTRY: Final = 0x90 | len(_TYPES)
"""The first byte of an entry: an array of so many elements."""
_FIRST: Final[itemgetter[int]] = itemgetter(0)
_TRIES: Final = 100
_KEYS_AT_ONCE: Final = 256
"""Keys a script call: those of 128 partitions, which take the server about a quarter of a millisecond."""


class RedisFeed:
    """Reads feeds. Thread-safe.

    The feed's base says how much was trimmed from its list. A base only grows, in one step with the trimming; so one
    that was known before a reading, and is the same after it, was the same during it.
    """

    def __init__(self, server: RedisClient, keys: Keys, partitions: int) -> None:
        self._server = server
        self._keys = keys
        self._bases = [0] * partitions
        self._gather = Script("feed/gather", read_only=True)
        self._positions = Script("feed/positions", read_only=True)

    def pages(self, requests: Sequence[FeedRequest]) -> list[FeedPage]:
        """As `FeedSources.feed_pages`."""
        for _ in range(_TRIES):
            bases = [self._bases[partition] for partition, _, _ in requests]
            commands: list[Sequence[bytes]] = []
            for (partition, position, limit), base in zip(requests, bases, strict=True):
                key, start = self._keys.feed(partition).encode(), max(0, position - base)
                page = (b"LRANGE", key, b"%d" % start, b"%d" % (start + max(1, limit) - 1))
                marks = self._marks_command(partition)
                commands += [marks, page, (b"LLEN", key), marks]
            replies = self._server.execute_all("read the feed", commands)
            now = list(map(_base, replies[3::4]))
            for (partition, _, _), base in zip(requests, now, strict=True):
                self._bases[partition] = base
            if now != bases:
                continue  # the commands read other positions than those requested
            pages: list[FeedPage] = []
            read = zip(requests, bases, replies[::4], replies[1::4], replies[2::4], replies[3::4], strict=True)
            for (partition, position, _), base, before, rows, length, after in read:
                if position < base:
                    raise feed_trimmed(partition, position, base)
                if not _end(before) <= base + length <= _end(after):
                    raise feed_damaged(partition, _end(after), base + length)
                pages.append(FeedPage(_fields(rows, partition), base + length, int(before[1] or 0)))
            return pages
        raise CorruptEvent("the base of a feed changes with each reading")

    def positions(self) -> list[int]:
        """As `FeedSources.positions`. Not of one moment: feeds may grow in between."""
        keys = [key for partition in range(len(self._bases)) for key in self._feed_keys(partition)]
        step = _KEYS_AT_ONCE if self._server.nodes is None else 2  # a script may only have keys of one slot
        calls = [(keys[start : start + step], ()) for start in range(0, len(keys), step)]
        found = self._server.run_scripts(self._positions, calls, "look where the feeds end")
        return [int(end) for ends in found for end in ends]

    def _feed_keys(self, partition: int) -> tuple[str, str]:
        return self._keys.heads(partition), self._keys.feed(partition)

    def gather(self, requests: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        """As `FeedSources.gather_all`."""
        k = self._keys
        calls: list[tuple[Sequence[str], Sequence[bytes]]] = []
        for partition, spans in requests:
            keys = [k.heads(partition), k.bases(partition), *[k.log(partition, span.agent) for span in spans]]
            arguments = [b"%d" % most_bytes]
            for span in spans:
                arguments += (span.agent.encode(), b"%d" % span.from_seq, b"%d" % span.count)
            calls.append((keys, arguments))
        found: list[Any] = self._server.run_scripts(self._gather, calls, "read events")
        return [_span_events(spans, rows) for (_, spans), rows in zip(requests, found, strict=True)]

    def erased_until(self, partition: int, agent: str) -> int:
        """As `FeedSource.erased_until`."""
        key, field = self._keys.heads(partition).encode(), erasure_field(agent).encode()
        found = self._server.execute("look for an erasure", b"HMGET", key, field)[0]
        return -1 if found is None else int(found)

    def erased_agents(self, partition: int, agents: Sequence[str]) -> dict[str, int]:
        """As `FeedSources.erased_agents`."""
        if not agents:
            return {}
        key, fields = self._keys.heads(partition).encode(), [erasure_field(agent).encode() for agent in agents]
        found = self._server.execute("look for erasures", b"HMGET", key, *fields)
        return {agent: int(position) for agent, position in zip(agents, found, strict=True) if position is not None}

    def erasures(self, partitions: Sequence[int]) -> list[int]:
        """As `FeedSources.erasures`."""
        if not partitions:
            return []
        commands = [(b"HMGET", self._keys.heads(partition).encode(), b"erasures") for partition in partitions]
        found = self._server.execute_all("look for erasures", commands)
        return [int(count or 0) for (count,) in found]

    def read_ahead(self, partition: int) -> RedisReadAhead:
        """A new `ReadAhead` for one reader."""
        return RedisReadAhead(self._server, self._keys, partition, _fields)

    def _marks_command(self, partition: int) -> tuple[bytes, ...]:
        return (b"HMGET", self._keys.heads(partition).encode(), *MARKS)


def _base(marks: list[bytes | None]) -> int:
    return int(marks[0] or 0)


def _end(marks: list[bytes | None]) -> int:
    """Where the feed ends by the last position of each level."""
    return max([int(mark or 0) for mark in marks[2:]])


def _span_events(spans: Sequence[Span], rows: Sequence[Any]) -> list[SpanEvents]:
    return [
        SpanEvents(-1, -1, span.from_seq, []) if row is None else SpanEvents(*row)
        for span, row in zip(spans, rows, strict=False)
    ]


def _fields(stored: Sequence[bytes], partition: int) -> list[Any]:
    """The fields of entries, as in `FeedPage`. Raises CorruptEvent."""
    joined = b"".join([entry[1:] for entry in stored])
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(joined) or 1)
    unpacker.feed(joined)
    try:
        fields: list[Any] = list(unpacker)
    except (ValueError, TypeError):
        fields = []
    sound = all(stored) and set(map(_FIRST, stored)) <= {_ENTRY} and list(map(type, fields)) == _TYPES * len(stored)
    if not sound:
        raise CorruptEvent(f"an entry of the feed of partition {partition} is damaged; restore it from a backup")
    return fields
