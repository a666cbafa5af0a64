"""An agent's events in pages from a server; the next page is on its way while one is used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from ..errors import CorruptEvent, UnsafeServer
from ..log import Head, Keys, Page, pages_of, trimmed_further
from ..model import Limits
from .append_format import head_of
from .client import FAILURES, HeldConnection, RedisClient, Script, encode_argument, encode_command

_MOST_EVENTS: Final = 1 << 52  # the server counts in doubles
_UNKNOWN: Final = 1 << 30
_MOST_PARTS: Final = 4_096
"""Agents whose commands are kept encoded, since encoding them took a tenth of such a read."""
_LEAST: Final = 32
"""Events of a page that is worth requesting ahead."""


class RedisPages:
    """Reads the logs of one namespace. Thread-safe."""

    def __init__(self, server: RedisClient, keys: Keys, limits: Limits) -> None:
        self._server = server
        self._keys = keys
        self._limits = limits
        self._script = Script("agents/read", read_only=True)
        self._parts: dict[str, tuple[bytes, list[bytes]]] = {}

    def page(self, partition: int, agent: str, from_seq: int, limit: int) -> Page | None:
        """As `EventLog.read`."""
        keys, arguments = self._call(partition, agent, from_seq, limit)
        return _page_of(agent, from_seq, self._server.run_script(self._script, keys, arguments, "read"))

    def page_after(self, partition: int, agent: str, from_seq: int, limit: int, seen: Head) -> Page | None:
        """As `page`, by plain commands, which take half of the server's time that the script takes.

        None where they do not show a whole page: the agent is trimmed or written meanwhile, its events are too large,
        or something is damaged.
        """
        at = from_seq - seen.base - 1
        count = min(limit, self._limits.page_events, self._limits.page_bytes // (seen.largest or _UNKNOWN))
        if at < 0 or count < _LEAST:
            return None
        range_of, others = self._parts.get(agent) or self._encode_parts(partition, agent)
        bounds = encode_argument(b"%d" % at) + encode_argument(b"%d" % (at + count - 1))
        try:
            items, length, [stored] = self._server.execute_encoded(
                "read", self._keys.heads(partition), (range_of + bounds, *others)
            )
        except UnsafeServer:  # a key that holds something else: the script says which
            return None
        head = None if stored is None else head_of(stored, agent)
        # A base only grows. One that is still the same after the reading was the same during it.
        if head is None or head.base != seen.base or head.base + length != head.seq:
            return None
        is_whole = len(items) == min(count, head.seq - from_seq + 1)
        return Page(head, from_seq, items) if is_whole else None

    def _encode_parts(self, partition: int, agent: str) -> tuple[bytes, list[bytes]]:
        """What is the same in each reading of an agent: LRANGE without its bounds, and the other two commands."""
        if len(self._parts) >= _MOST_PARTS:
            self._parts.clear()
        log = self._keys.log(partition, agent).encode()
        heads = (b"HMGET", self._keys.heads(partition).encode(), agent.encode())
        parts = (
            b"*4\r\n" + encode_argument(b"LRANGE") + encode_argument(log),
            [encode_command((b"LLEN", log)), encode_command(heads)],
        )
        self._parts[agent] = parts
        return parts

    def pages(self, partition: int, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        """As `EventLog.pages`. A page that was not requested ahead is read in its turn."""
        ahead = _PageAhead(self._server, self._keys, self._limits, partition, agent)

        def read(at: int, limit: int) -> Page | None:
            return ahead.collect() or self.page(partition, agent, at, limit)

        try:
            yield from pages_of(agent, from_seq, to_seq, read, ahead.request)
        finally:
            ahead.close()

    def _call(self, partition: int, agent: str, from_seq: int, limit: int) -> tuple[list[str], list[bytes]]:
        keys = [self._keys.heads(partition), self._keys.log(partition, agent)]
        first = min(from_seq, _MOST_EVENTS)  # any greater one is past any head
        count = max(1, min(limit, self._limits.page_events))
        return keys, [agent.encode(), b"%d" % first, b"%d" % count, b"%d" % self._limits.page_bytes]


class _PageAhead:
    """Requests a page before it is needed, on a connection that is kept for the next one.

    It uses plain commands, which take a quarter of the server's time that the script takes; but only where the largest
    event of the log is so small that a page cannot exceed its limits.
    """

    def __init__(self, server: RedisClient, keys: Keys, limits: Limits, partition: int, agent: str) -> None:
        self._limits = limits
        self._agent = agent
        self._log = keys.log(partition, agent).encode()
        self._head = encode_command((b"HMGET", keys.heads(partition).encode(), agent.encode()))
        self._connection = HeldConnection(server, keys.heads(partition))
        self._requested = (0, 0, 0)
        """Base, first seq and number of events of the page under way."""

    def request(self, page: Page, count: int) -> None:
        """Request what comes after `page`, at most so many events."""
        head, first = page.head, page.first_seq + len(page.items)
        count = min(count, self._limits.page_events, self._limits.page_bytes // (head.largest or _UNKNOWN))
        if count < _LEAST:
            return
        at = first - head.base - 1
        items = encode_command((b"LRANGE", self._log, b"%d" % at, b"%d" % (at + count - 1)))
        try:
            self._connection.open().send(items + self._head)
            self._requested = (head.base, first, count)
            self._connection.under_way = True
        except FAILURES:
            self._connection.discard()

    def collect(self) -> Page | None:
        """The page, if it was requested and is whole; otherwise the script is called, which finds out what is wrong."""
        wire = self._connection.busy_wire
        if wire is None:
            return None
        try:
            items, stored = wire.read(), wire.read()[0]
        except FAILURES:
            self._connection.discard()
            return None
        self._connection.under_way = False
        base, first, count = self._requested
        head = None if stored is None else head_of(stored, self._agent)
        # A base only grows. One that is still the same after the reading was the same during it.
        return Page(head, first, items) if head is not None and head.base == base and len(items) == count else None

    def close(self) -> None:
        self._connection.close()


def _page_of(agent: str, from_seq: int, reply: Any) -> Page | None:
    if reply is None:
        return None
    head = head_of(reply[0], agent)
    length = int(reply[1])
    if from_seq <= head.base:
        raise trimmed_further(agent, from_seq - 1, head.base)
    if head.base + length != head.seq:
        raise CorruptEvent(
            f"the log of {agent} does not fit its head; restore it from a backup",
            agent=agent,
            expected=head.seq,
            actual=head.base + max(0, length),
        )
    return Page(head, int(reply[2]), list(chain.from_iterable(reply[3:])))
