"""Publishing on the channels of hosts without waiting for the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class MessagePublisher(Protocol):
    """Publishes on the channels of hosts over one connection, without waiting. Used by one thread at a time."""

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection on which everything sent before was answered."""
        ...

    @property
    def losses(self) -> int:
        """How many connections were lost, with what was sent on them and not answered."""
        ...

    def publish(
        self, messages: Sequence[tuple[str, bytes]], contents: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> None:
        """Store contents, each under its id, for `ttl_ms`, then publish messages, each to a host, in this order.

        Never blocks, and never raises for a lost server. Without a connection nothing is sent: `collect` opens one.
        What was sent on a connection that is lost may or may not have arrived; it is not sent again.
        """
        ...

    def collect(self, timeout: float) -> None:
        """Send what could not be sent at once and read answers, until `is_ready`, at most for `timeout` seconds.

        Opens a connection where there is none, which may block for longer; after a loss there are pauses. Never raises
        for a lost server.
        """
        ...

    def close(self) -> None:
        """Release the connection. Idempotent."""
        ...
