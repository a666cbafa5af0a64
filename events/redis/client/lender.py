"""Open connections lent to another process, which can then read feeds without credentials of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from ...errors import DuramenError
from ...log import FeedAccess
from .requests import RedisClient
from .wire import CONNECTION_ERRORS, Wire

_DEFAULT_POOL_SIZE: Final = 100
"""Connections redis-py lets a pool open by default. Users who allow fewer want to count them: none are lent."""


class LentConnections:
    """Connections reserved for one other process until `close`. Used by one thread at a time."""

    def __init__(self, access: FeedAccess, wires: Sequence[Wire], on_close: Callable[[], None]) -> None:
        self.access = access
        self._wires = wires
        self._on_close = on_close

    def close(self) -> None:
        """Close the connections in both processes. A request under way there may still be answered. Idempotent."""
        wires, self._wires = self._wires, ()
        for wire in wires:
            wire.discard()
        if wires:
            self._on_close()


class ConnectionLender:
    """Lends connections to one other process at a time. Thread-safe."""

    def __init__(self, client: RedisClient, namespace: str, partitions: int) -> None:
        self._client = client
        self._namespace = namespace
        self._partitions = partitions
        self._is_lending = threading.Lock()

    def lend(self, count: int) -> LentConnections | None:
        """Open `count` connections for another process.

        None if they cannot be opened, are lent already, or are encrypted: TLS state cannot leave this process. Nor in a
        cluster, whose nodes the other process could not find again.
        """
        if self._client.nodes is not None:
            return None
        if self._client.pool.max_connections < _DEFAULT_POOL_SIZE or not self._is_lending.acquire(blocking=False):
            return None
        with ExitStack() as stack:
            stack.callback(self._is_lending.release)
            wires: list[Wire] = []
            descriptors: list[int] = []
            for _ in range(count):
                try:
                    wire = self._client.connect_to(None)
                except (*CONNECTION_ERRORS, DuramenError):
                    return None
                stack.callback(wire.discard)
                descriptor = wire.descriptor
                if descriptor is None:
                    return None
                wires.append(wire)
                descriptors.append(descriptor)
            stack.pop_all()
        access = FeedAccess(self._namespace, self._partitions, self._client.reply_timeout, descriptors)
        return LentConnections(access, wires, self._is_lending.release)
