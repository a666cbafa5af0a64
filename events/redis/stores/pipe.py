"""A connection on which commands are sent without waiting for the server, and whose replies are counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

import redis

from ...errors import DuramenError
from ...logging import get_logger
from ..client import CONNECTION_ERRORS, Wire, retry_pause

_KEEP: Final = 1024
"""Bytes of one reply that may be incomplete: a longer one is no reply to these commands."""

_LATE: Final = 0.1
"""Seconds after which an answer takes longer than usual."""


class Pipe:
    """A connection to one server for commands that are answered by a line each. Not thread-safe.

    A command whose connection breaks before the reply may or may not have been carried out; it is not sent again.
    """

    def __init__(
        self, connect: Callable[[], Wire], reply_timeout: float, on_refused: Callable[[list[bytes]], None]
    ) -> None:
        """`on_refused` is called with the errors among the replies, each with its code in front."""
        self._connect = connect
        self._reply_timeout = reply_timeout
        self._on_refused = on_refused
        self._log = get_logger("publisher")
        self._wire: Wire | None = None
        self._unsent = b""
        self._awaited = 0
        """Replies that have yet to arrive."""
        self._partial = b""
        self._sent_at = 0.0
        self._failures = 0
        self.try_at = 0.0
        """When it may be opened."""
        self.losses = 0
        """Connections lost, with what was sent on them and not answered."""

    @property
    def is_open(self) -> bool:
        return self._wire is not None

    @property
    def is_waiting(self) -> bool:
        """Whether something could not be sent at once."""
        return bool(self._unsent)

    @property
    def is_ready(self) -> bool:
        """Whether it is open, and everything sent before was answered. Reads what has arrived."""
        if self._awaited:
            self._guarded(self._read)
        return self._wire is not None and not self._awaited and not self._unsent

    def is_late(self) -> bool:
        """Whether an answer takes longer than usual. Gives the connection up if it takes too long."""
        self._check_patience()
        return self._awaited > 0 and monotonic() - self._sent_at >= _LATE

    def send(self, commands: bytes, count: int) -> None:
        """Send commands, or keep for `collect` what does not fit without waiting. Only while it is open."""
        if not self._awaited:
            self._sent_at = monotonic()
        self._awaited += count
        self._unsent += commands
        self._guarded(self._write)

    def open(self) -> bool:
        """Open it if it is time for that; whether it is open."""
        if self._wire is not None:
            return True
        if monotonic() < self.try_at:
            return False
        try:
            self._wire = self._connect()
        except (*CONNECTION_ERRORS, redis.RedisError, DuramenError) as error:
            self._pause_after(error)
            return False
        self._unsent, self._partial, self._awaited = b"", b"", 0
        return True

    def collect(self, until: float) -> None:
        """Send what could not be sent at once and read answers, until it is ready or lost, or until then."""
        self._guarded(self._write)
        while not self.is_ready and self._wire is not None:
            left = until - monotonic()
            if left <= 0:
                self._check_patience()
                return
            self._guarded(partial(Wire.wait, timeout=left))
            self._guarded(self._write)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.discard()
            self._wire = None
        self._unsent, self._partial, self._awaited = b"", b"", 0

    def _guarded(self, call: Callable[[Wire], object]) -> None:
        if self._wire is not None:
            try:
                call(self._wire)
            except CONNECTION_ERRORS as error:
                self._lost(error)

    def _write(self, wire: Wire) -> None:
        if self._unsent:
            self._unsent = self._unsent[wire.try_send(self._unsent) :]

    def _read(self, wire: Wire) -> None:
        """Read the replies that have arrived: a line each."""
        while self._awaited and (data := wire.receive()):
            *replies, self._partial = (self._partial + data).split(b"\r\n")
            self._awaited -= len(replies)
            self._sent_at = monotonic()
            self._failures = 0
            if len(self._partial) > _KEEP or self._awaited < 0:
                raise redis.ConnectionError("not the replies to what was sent")
            refused = [reply[1:] for reply in replies if reply.startswith(b"-")]
            if refused:
                self._on_refused(refused)

    def _check_patience(self) -> None:
        """Give the connection up if no reply has come for too long: a server can hang without closing it."""
        if self._awaited and monotonic() - self._sent_at >= self._reply_timeout:
            self._lost(TimeoutError())

    def _lost(self, error: Exception) -> None:
        self.losses += 1
        self.close()
        self._pause_after(error)

    def _pause_after(self, error: Exception) -> None:
        self.try_at = monotonic() + (retry_pause(self._failures) if self._failures else 0.0)
        self._failures += 1
        self._log.info("publisher_interrupted", error=type(error).__name__)
