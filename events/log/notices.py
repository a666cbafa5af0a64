"""Notices: how readers learn that a log has grown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from attrs import define

from ..model import Granularity


@define
class Notice:
    """A message of a partition's channel: its feed has grown, with the events themselves unless they are too large.

    `previous` and `position` are feed positions: of the last append with events of this level before this batch, and
    of the last one in it. A reader that did not stand at `previous` has missed something. Each element of `events` has
    an agent, the seq of its first event, and consecutive events as stored.

    `before` is where the feed ended before this batch, and `levels` has bit `1 << level` for each granularity in it: of
    a batch with one level the notice has everything between `before` and `position`.
    """

    partition: int
    level: Granularity
    previous: int
    position: int
    events: list[tuple[str, int, list[bytes]]] | None
    before: int
    levels: int


class NoticeStream(Protocol):
    """Receives which partitions have moved. Used by one thread at a time, except `wake` and `close`."""

    @property
    def unexpected(self) -> int:
        """How many messages were malformed or out of order, which no duramen process sends."""
        ...

    @property
    def received(self) -> int:
        """How many messages have arrived."""
        ...

    def follow(self, partitions: Collection[int], level: int) -> None:
        """Follow these partitions, events up to this granularity, and nothing else. Never blocks.

        Once that is in force, `receive` returns 0 for each partition that was not followed like this before.
        """
        ...

    def receive(self, timeout: float | None) -> dict[int, int]:
        """The partitions that may have moved, each with the highest feed position received.

        Position 0 is unknown, as after a (re)connection: read the feed. Waits for a notice, at most `timeout` seconds
        or until `wake`; then the result is empty. Never raises for a lost server, but connects again, with pauses. A
        position proves nothing: any user who may publish can send one, and what is lost on the way is not sent again.
        """
        ...

    def take_notices(self) -> list[Notice]:
        """The notices with events of what the last `receive` returned, in the order of each channel; once.

        Empty for a stream that was not opened for events. Only their form was checked: rows of three parts, of which
        the last is a list of bytes.
        """
        ...

    def wake(self) -> None:
        """End a `receive` that waits, or the next one. Callable from any thread."""
        ...

    def close(self) -> None:
        """Release the connection. A `receive` that waits in another thread ends."""
        ...
