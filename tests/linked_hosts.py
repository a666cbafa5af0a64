"""Hosts that send rows to one another over a store, and what has arrived at each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any
from uuid import uuid4

from duramen.actors.hosts.links import Links, Row
from duramen.events.log import HostStore
from duramen.events.memory import MemoryLog
from duramen.events.redis import RedisLog
from duramen.events.redis.client import pool_of_url

__all__ = ["LinkedHost", "store_of"]


def store_of(url: str) -> HostStore:
    """A store of the default namespace, with connections of its own."""
    return MemoryLog().hosts if url == "memory://" else RedisLog(pool_of_url(url)).hosts


class LinkedHost:
    """One host in a `with` statement. What arrives is kept in `rows`, after `answer` was called with it."""

    def __init__(self, store: HostStore, *, answer: Callable[[LinkedHost, str, Row], Any] | None = None) -> None:
        self.host = uuid4().hex
        self.rows: list[Row] = []
        self._answer = answer
        self._changed = threading.Condition()
        self.links = Links(self.host, store, 1, self._deliver)

    def send(self, peer: LinkedHost, *rows: Row) -> None:
        for row in rows:
            self.links.add(peer.host, row)
        self.links.flush()

    def wait_for(self, count: int, timeout: float = 60.0) -> list[Row]:
        """The rows that have arrived, once there are so many; `AssertionError` if they do not come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.rows) >= count, timeout), f"{len(self.rows)} of {count} rows"
            return list(self.rows)

    def _deliver(self, rows: list[tuple[str, Row]]) -> None:
        for peer, row in rows:
            if self._answer is not None:
                self._answer(self, peer, row)
            with self._changed:
                self.rows.append(row)
                self._changed.notify_all()

    def __enter__(self) -> LinkedHost:
        assert self.links.start(60.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.links.close(10.0)
