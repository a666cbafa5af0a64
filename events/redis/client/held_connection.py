"""A connection that a reader keeps from one request to the next."""

from __future__ import annotations

import redis

from ...errors import DuramenError
from .requests import RedisClient
from .wire import Wire

FAILURES = (redis.RedisError, OSError, DuramenError)
"""Errors of a request that is sent ahead. The reader sends it again in its turn, and raises the error then."""


class HeldConnection:
    """Opened when needed. Used by one thread at a time.

    Others may have it after `close`, unless replies are still `under_way`: then it is closed for good.
    """

    def __init__(self, server: RedisClient) -> None:
        self._server = server
        self._wire: Wire | None = None
        self.under_way = False

    @property
    def busy_wire(self) -> Wire | None:
        """The connection that has replies under way, if there is one."""
        return self._wire if self.under_way else None

    def open(self) -> Wire:
        """Raises one of `FAILURES`."""
        if self._wire is None:
            self._wire = self._server.connect()
        return self._wire

    def close(self) -> None:
        """Release the connection; one with replies under way is closed."""
        if self._wire is not None and not self.under_way:
            self._wire.release()
            self._wire = None
        self.discard()

    def discard(self) -> None:
        """Close the connection, with what is under way."""
        if self._wire is not None:
            self._wire.discard()
        self._wire, self.under_way = None, False
