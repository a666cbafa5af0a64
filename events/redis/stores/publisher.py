"""Messages published over one connection, without waiting for the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final

import redis

from ...errors import DuramenError
from ...log import Keys
from ...logging import get_logger
from ..client import CONNECTION_ERRORS, RedisClient, Wire, encode_argument, encode_command, retry_pause

_PUBLISH: Final = b"*3\r\n$7\r\nPUBLISH\r\n"
_MOST_CHANNELS: Final = 1_000
_KEEP: Final = 1024
"""Bytes of one reply that may be incomplete: a longer one is no reply to these commands."""


class RedisPublisher:
    """A `MessagePublisher` with a connection of its own. Not thread-safe.

    A message whose connection breaks before the reply may or may not have been published; it is not sent again.
    """

    def __init__(self, server: RedisClient, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._log = get_logger("publisher")
        self._wire: Wire | None = None
        self._unsent = b""
        self._awaited = 0
        """Replies that have yet to arrive."""
        self._partial = b""
        self._sent_at = 0.0
        self._try_at = 0.0
        self._failures = 0
        self._heads: dict[str, bytes] = {}
        self._losses = 0

    @property
    def is_ready(self) -> bool:
        if self._awaited:
            self._guarded(self._read)
        return self._wire is not None and not self._awaited and not self._unsent

    @property
    def losses(self) -> int:
        return self._losses

    def publish(
        self, messages: Sequence[tuple[str, bytes]], contents: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> None:
        if self._wire is None:
            return
        ttl = b"%d" % ttl_ms
        parts = [
            encode_command((b"SET", self._keys.content(content_id).encode(), content, b"PX", ttl))
            for content_id, content in contents
        ]
        for host, message in messages:
            parts += (self._head(host), encode_argument(message))
        if not self._awaited:
            self._sent_at = monotonic()
        self._awaited += len(messages) + len(contents)
        self._unsent += b"".join(parts)
        self._guarded(self._write)

    def collect(self, timeout: float) -> None:
        until = monotonic() + timeout
        if self._wire is None and not self._connect():
            return
        self._guarded(self._write)
        while not self.is_ready and self._wire is not None:
            left = until - monotonic()
            if left <= 0:
                self._check_patience()
                return
            self._guarded(partial(Wire.wait, timeout=left))
            self._guarded(self._write)

    def close(self) -> None:
        self._drop()

    def _head(self, host: str) -> bytes:
        head = self._heads.get(host)
        if head is None:
            if len(self._heads) >= _MOST_CHANNELS:
                self._heads.clear()
            head = self._heads[host] = _PUBLISH + encode_argument(self._keys.host_channel(host).encode())
        return head

    # -- the connection --------------------------------------------------------------------------------------------

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
            refused = {reply[1:].split(b" ", 1)[0] for reply in replies if reply.startswith(b"-")}
            if refused:
                self._log.warning("messages_refused", error=b" ".join(sorted(refused)).decode("ascii", "replace"))

    def _connect(self) -> bool:
        if monotonic() < self._try_at:
            return False
        try:
            self._wire = self._server.connect()
        except (*CONNECTION_ERRORS, redis.RedisError, DuramenError) as error:
            self._pause_after(error)
            return False
        self._unsent, self._partial, self._awaited = b"", b"", 0
        return True

    def _check_patience(self) -> None:
        """Give the connection up if no reply has come for too long: a server can hang without closing it."""
        if self._awaited and monotonic() - self._sent_at >= self._server.reply_timeout:
            self._lost(TimeoutError())

    def _lost(self, error: Exception) -> None:
        self._losses += 1
        self._drop()
        self._pause_after(error)

    def _pause_after(self, error: Exception) -> None:
        self._try_at = monotonic() + (retry_pause(self._failures) if self._failures else 0.0)
        self._failures += 1
        self._log.info("publisher_interrupted", error=type(error).__name__)

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.discard()
            self._wire = None
        self._unsent, self._partial, self._awaited = b"", b"", 0
