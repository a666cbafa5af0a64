"""Links as their users see them: rows between this host and others, each exactly once and in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from .frame import Row

Deliver = Callable[[str, Row], object]
"""Called with the sender's host id and one row, in the sender's order, in the link's thread. It must not block."""


class Links(Protocol):
    """One host's streams to and from other hosts. Thread-safe.

    While both hosts live, what one sends to the other arrives exactly once and in order, whatever the channel loses,
    repeats or delays. Nothing is promised for rows to a host that ends, and a row that was sent may or may not have
    arrived there.
    """

    @property
    def host(self) -> str:
        """The id of this host."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many messages were dropped unread, by reason."""
        ...

    def send(self, peer: str, row: Row, *, bounded: bool = True) -> None:
        """Send a row to another host. Never blocks for the network.

        Raises MailboxFull when too much for this peer is unheard and queued; with `bounded=False` never, for replies,
        whose number the asks have bounded. Raises Unavailable for a peer that was forgotten, ValueRefused for what is
        no plain data, TooLarge over the limit of one row, SystemClosed after `close` and in a forked child.
        """
        ...

    def queue(self, peer: str, row: Row, *, bounded: bool = True) -> None:
        """As `send`, but the row waits for the next `flush`, `send` or event of the link. For many rows at once."""
        ...

    def flush(self) -> None:
        """Send what was queued, in one publish; without waiting while another one is under way."""
        ...

    def forget(self, peer: str) -> None:
        """Drop the streams to and from a host that is dead. Its late frames are refused, for ever."""
        ...

    def close(self, timeout: float = 5.0) -> None:
        """Send what is queued if that is possible at once, and end. Idempotent."""
        ...
