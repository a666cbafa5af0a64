"""An agent's events as a server returns them: in pages, of which the next is on its way while one is used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import redis

from ..errors import CorruptEvent, DuramenError, Trimmed
from ..log import Keys, Page, pages_of
from ..model import Limits
from .append_format import head_of
from .client import RedisClient, Script, Wire, encode_command

__all__ = ["RedisPages"]

_MOST_EVENTS: Final = 1 << 52  # the server counts in doubles
_UNKNOWN: Final = 1 << 30
_LEAST: Final = 32
"""Events of a page that is worth asking for ahead."""


class RedisPages:
    """Reads the logs of one namespace. Thread-safe."""

    def __init__(self, server: RedisClient, keys: Keys, limits: Limits) -> None:
        self._server = server
        self._keys = keys
        self._limits = limits
        self._script = Script("read", read_only=True)

    def page(self, partition: int, agent: str, from_seq: int, limit: int) -> Page | None:
        """As `EventLog.read`."""
        keys, arguments = self._call(partition, agent, from_seq, limit)
        return _page_of(agent, from_seq, self._server.run_script(self._script, keys, arguments, "read"))

    def pages(self, partition: int, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        """As `EventLog.pages`. What comes ahead is an optimisation: without it the page is asked for in its turn."""
        ahead = _Ahead(self._server, self._keys, self._limits, partition, agent)

        def read(at: int, limit: int) -> Page | None:
            return ahead.take() or self.page(partition, agent, at, limit)

        try:
            yield from pages_of(agent, from_seq, to_seq, read, ahead.ask)
        finally:
            ahead.close()

    def _call(self, partition: int, agent: str, from_seq: int, limit: int) -> tuple[list[str], list[bytes]]:
        keys = [self._keys.heads(partition), self._keys.log(partition, agent)]
        first = min(from_seq, _MOST_EVENTS)  # what lies beyond is past any head
        count = max(1, min(limit, self._limits.page_events))
        return keys, [agent.encode(), b"%d" % first, b"%d" % count, b"%d" % self._limits.page_bytes]


class _Ahead:
    """Asks for a page before it is wanted, on a connection that is kept for the next.

    By plain commands, in a quarter of the server's time that the script takes: but only where the largest event of
    the log is so small that a page has its bounds without anybody counting.
    """

    def __init__(self, server: RedisClient, keys: Keys, limits: Limits, partition: int, agent: str) -> None:
        self._server = server
        self._limits = limits
        self._log = keys.log(partition, agent).encode()
        self._head = encode_command((b"HMGET", keys.heads(partition).encode(), agent.encode()))
        self._wire: Wire | None = None
        self._asked: tuple[int, int, int] | None = None
        """Base, first seq and number of events of the page under way."""

    def ask(self, page: Page, count: int) -> None:
        """Ask for what comes after `page`, at most so many events."""
        head, first = page.head, page.first_seq + len(page.items)
        count = min(count, self._limits.page_events, self._limits.page_bytes // (head.largest or _UNKNOWN))
        if count < _LEAST:
            return
        at = first - head.base - 1
        items = encode_command((b"LRANGE", self._log, b"%d" % at, b"%d" % (at + count - 1)))
        try:
            if self._wire is None:
                self._wire = self._server.connect()
            self._wire.send(items + self._head)
            self._asked = (head.base, first, count)
        except (redis.RedisError, OSError, DuramenError):
            self._drop()

    def take(self) -> Page | None:
        """The page, if it has come and is whole: who gets none asks the script, which tells what is wrong."""
        if self._wire is None or self._asked is None:
            return None
        base, first, count = self._asked
        try:
            items, stored = self._wire.read(), self._wire.read()[0]
        except (redis.RedisError, OSError):
            self._drop()
            return None
        self._asked = None
        head = None if stored is None else head_of(stored)
        # A base only grows. One that is still the same behind the reading was the same during it.
        return Page(head, first, items) if head is not None and head.base == base and len(items) == count else None

    def close(self) -> None:
        if self._wire is not None and self._asked is None:
            self._wire.release()
            self._wire = None
        self._drop()

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.discard()
        self._wire, self._asked = None, None


def _page_of(agent: str, from_seq: int, reply: Any) -> Page | None:
    if reply is None:
        return None
    head, length = head_of(reply[0]), int(reply[1])
    if from_seq <= head.base:
        raise Trimmed(
            f"events up to {head.base} of {agent} were trimmed; read from {head.base + 1} on",
            agent=agent,
            expected=from_seq,
            actual=head.base + 1,
        )
    if head.base + length != head.seq:
        raise CorruptEvent(
            f"the log of {agent} does not fit its head; restore it from a backup",
            agent=agent,
            expected=head.seq,
            actual=head.base + length,
        )
    return Page(head, int(reply[2]), list(chain.from_iterable(reply[3:])))
