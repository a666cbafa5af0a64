"""Events and feed entries that are on their way from a server while the reader works on those before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attrs import define

from ..codec import DIGEST_SIZE
from ..errors import CorruptEvent
from ..log import FeedPage, Keys, Span, SpanEvents
from .append_format import head_of
from .client import FAILURES, HeldConnection, RedisClient, Wire, encode_argument, encode_command

MARKS: Final = (b"base", b"erasures", b"1", b"2", b"3", b"4")
"""Fields of the heads: entries trimmed from the feed, how often some became nobody's, last position of each level."""
_REMEMBERED: Final = 4_096
# So much blocks a server for others for less than a millisecond.
_AT_ONCE: Final = 2_000
_SPANS_AT_ONCE: Final = 250


@define(eq=False)
class _Known:
    """An agent's head as it was stored once. What it says of the events up to `seq` holds as long as the base does."""

    stored: bytes
    base: int
    seq: int
    largest: int
    command: bytes
    """The command that reads the log, without the two indexes."""


class RedisReadAhead:
    """A `ReadAhead` that uses plain commands, which take a quarter of the server's time that the script takes.

    It requests only events that cannot exceed the limit, by the largest event of their log, which an earlier reply has
    shown. Where a list was trimmed is known in the same way, and read again after the events: a base only grows, so one
    that has not changed was the same during the reading.
    """

    def __init__(
        self, server: RedisClient, keys: Keys, partition: int, fields_of: Callable[[Sequence[bytes], int], list[Any]]
    ) -> None:
        self._keys = keys
        self._heads = keys.heads(partition).encode()
        self._feed = keys.feed(partition).encode()
        self._partition = partition
        self._fields_of = fields_of
        self._known: dict[str, _Known] = {}
        self._base = 0
        """Of the feed, as it was last read."""
        self._connection = HeldConnection(server, keys.heads(partition))
        self._portions: list[list[bytes]] = []
        """Commands still to be sent; the first portion is the last element."""
        self._awaited: deque[int] = deque()
        """The number of replies of each portion that was sent."""
        self._replies: list[Any] = []
        self._requested: list[tuple[Span, _Known | None]] = []
        self._pages = 0

    def request(self, spans: Sequence[Span], position: int, limit: int, most_bytes: int) -> None:
        """As `ReadAhead.request`. Unknown heads are read first, in a round trip."""
        if self._connection.under_way:
            self._discard()
        self._requested, self._replies = [], []
        try:
            wire = self._connection.open()
            self._connection.under_way = True
            self._read_heads(wire, [span for span in spans if not self._reaches(span)])
        except FAILURES:
            self._discard()
            return
        portions = [*self._spans_in_portions(spans, most_bytes), *self._feed_in_portions(position, limit)]
        self._portions = [portion for portion in reversed(portions) if portion]
        self.send_more()

    def _reaches(self, span: Span) -> bool:
        known = self._known.get(span.agent)
        return known is not None and span.from_seq + max(1, span.count) - 1 <= known.seq

    def _read_heads(self, wire: Wire, spans: Sequence[Span]) -> None:
        for at in range(0, len(spans), _SPANS_AT_ONCE):
            part = spans[at : at + _SPANS_AT_ONCE]
            wire.send(self._heads_of(part))
            for span, stored in zip(part, wire.read(), strict=True):
                self._note(span.agent, stored)

    def _heads_of(self, spans: Sequence[Span]) -> bytes:
        return encode_command((b"HMGET", self._heads, *[span.agent.encode() for span in spans]))

    def _spans_in_portions(self, spans: Sequence[Span], most_bytes: int) -> list[list[bytes]]:
        commands: list[bytes] = []
        portions = [commands]
        events = 0
        for span in spans:
            known, count = self._known.get(span.agent), max(1, span.count)
            size = 0 if known is None else known.largest * count
            if known is not None and 0 < size <= most_bytes and known.base < span.from_seq and self._reaches(span):
                most_bytes -= size
                events += count
                at = span.from_seq - known.base - 1
                commands.append(known.command + encode_argument(b"%d" % at) + encode_argument(b"%d" % (at + count - 1)))
            else:
                known = None
            self._requested.append((span, known))
            if events >= _AT_ONCE or len(commands) >= _SPANS_AT_ONCE:
                commands, events = [], 0
                portions.append(commands)
        heads = [[self._heads_of(spans[at : at + _SPANS_AT_ONCE])] for at in range(0, len(spans), _SPANS_AT_ONCE)]
        return portions + heads

    def _feed_in_portions(self, position: int, limit: int) -> list[list[bytes]]:
        start = position - self._base
        stop = start + limit if start >= 0 else start
        starts = range(start, stop, _AT_ONCE)
        self._pages = len(starts)
        portions = [
            [encode_command((b"LRANGE", self._feed, b"%d" % at, b"%d" % (min(at + _AT_ONCE, stop) - 1)))]
            for at in starts
        ]
        return [*portions, [encode_command((b"LLEN", self._feed)), encode_command((b"HMGET", self._heads, *MARKS))]]

    def send_more(self) -> None:
        """As `ReadAhead.send_more`. Receives what has come, too: otherwise the server would have to keep it."""
        wire = self._connection.busy_wire
        if wire is None:
            return
        try:
            if self._awaited and wire.has_reply():
                self._receive(wire)
            self._send(wire)
        except FAILURES:
            self._discard()

    def send_all(self) -> None:
        """As `ReadAhead.send_all`."""
        wire = self._connection.busy_wire
        try:
            while wire is not None and self._portions:
                self._send(wire)
        except FAILURES:
            self._discard()

    def _send(self, wire: Wire) -> None:
        if self._portions:
            portion = self._portions.pop()
            wire.send(b"".join(portion))
            self._awaited.append(len(portion))

    def _receive(self, wire: Wire) -> None:
        self._replies += [wire.read() for _ in range(self._awaited.popleft())]

    def collect(self) -> tuple[list[SpanEvents | None], FeedPage | None]:
        """As `ReadAhead.collect`."""
        wire = self._connection.busy_wire
        if wire is None:
            return [], None
        try:
            while self._portions:
                self._send(wire)
            while self._awaited:
                self._receive(wire)
        except FAILURES:
            self._discard()
            return [], None
        self._connection.under_way = False
        found = self._decode(iter(self._replies))
        self._replies, self._requested = [], []
        return found

    def _decode(self, replies: Iterator[Any]) -> tuple[list[SpanEvents | None], FeedPage | None]:
        requested = self._requested
        items: list[list[bytes]] = [[] if known is None else next(replies) for _, known in requested]
        stored: list[bytes | None] = []
        for _ in range(0, len(requested), _SPANS_AT_ONCE):
            stored += next(replies)
        found = [
            self._events_of(span, known, head, part)
            for (span, known), head, part in zip(requested, stored, items, strict=True)
        ]
        pages: list[list[bytes]] = [next(replies) for _ in range(self._pages)]
        length, marks = int(next(replies)), [int(mark or 0) for mark in next(replies)]
        base, erasures, end = marks[0], marks[1], max(marks[2:])
        for one in found:
            if one is not None:
                one.erasures = erasures
        # Where an append came between the two, or the feed is damaged, the reader reads its entries in its turn.
        usable, self._base = base == self._base and base + length == end, base
        return found, self._page(pages, end, erasures) if usable and pages else None

    def _events_of(
        self, span: Span, known: _Known | None, stored: bytes | None, items: list[bytes]
    ) -> SpanEvents | None:
        """The events of a span, if all of them came."""
        now = self._note(span.agent, stored)
        if now is None or known is None or now.base != known.base or len(items) != max(1, span.count):
            return None
        return SpanEvents(now.base, now.seq, span.from_seq, items if span.count else [items[0][:DIGEST_SIZE]])

    def _note(self, agent: str, stored: bytes | None) -> _Known | None:
        """Remember an agent's head."""
        now = self._known.get(agent)
        if now is not None and now.stored == stored:
            return now
        try:
            head = None if stored is None else head_of(stored, agent)
        except CorruptEvent:
            head = None
        if head is None or stored is None:
            self._known.pop(agent, None)
            return None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        key = self._keys.log(self._partition, agent).encode()
        command = b"*4\r\n" + encode_argument(b"LRANGE") + encode_argument(key)
        now = self._known[agent] = _Known(stored, head.base, head.seq, head.largest, command)
        return now

    def _page(self, pages: Sequence[Sequence[bytes]], end: int, erasures: int) -> FeedPage | None:
        try:
            fields = self._fields_of([entry for page in pages for entry in page], self._partition)
        except CorruptEvent:
            return None
        return FeedPage(fields, end, erasures)

    def close(self) -> None:
        """As `ReadAhead.close`."""
        self._connection.close()
        self._clear()

    def _discard(self) -> None:
        self._connection.discard()
        self._clear()

    def _clear(self) -> None:
        self._portions, self._replies, self._requested = [], [], []
        self._awaited.clear()
