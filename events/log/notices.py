"""Hearing that a log has grown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from attrs import define

from ..model import Granularity

__all__ = ["Notice", "NoticeStream"]


@define
class Notice:
    """A message of a partition's channel: a hint to read the log, with the events themselves unless they were too many.

    `previous` and `position` are feed positions: of the last append before, and of the last in this batch, that has
    events of this level. A reader that did not stand at `previous` has missed something. The events are
    consecutive ones of an agent, as stored, with the seq of the first.

    `before` is where the feed stood before this batch, and `levels` has bit `1 << level` for each granularity in it: of
    a batch with one level the message is all there is between `before` and `position`.
    """

    partition: int
    level: Granularity
    previous: int
    position: int
    events: list[tuple[str, int, list[bytes]]] | None
    before: int
    levels: int


class NoticeStream(Protocol):
    """Hears which partitions have moved. Used by one thread at a time, but for `wake` and `close`."""

    @property
    def unexpected(self) -> int:
        """How many messages could not be understood. Nobody who keeps to the protocol sends such."""
        ...

    @property
    def received(self) -> int:
        """How many messages have arrived."""
        ...

    def follow(self, partitions: Collection[int], level: int) -> None:
        """Follow these partitions, events up to this granularity, and nothing else. Blocks for nothing.

        Once that is in force, each partition that was not followed like this before is hinted at with 0.
        """
        ...

    def receive(self, timeout: float | None) -> dict[int, int]:
        """The partitions that may have moved, and how far: the highest feed position heard of each.

        0 stands for unknown, after a (re)connection for one: go and look. Waits for one, at most `timeout` seconds
        or until `wake`, and is empty then. Never raises for a lost server, but connects again, with pauses. A hint
        is nothing more: anybody who may publish can send one, and what was lost on the way is never sent again.
        """
        ...

    def take_notices(self) -> list[Notice]:
        """The messages behind what the last `receive` has returned, in the order of each channel; once.

        None of a stream that was not opened for events, and none without events. Nothing in them was checked but its
        form: an array of three parts in each row, whose last is a list.
        """
        ...

    def wake(self) -> None:
        """End a `receive` that waits, or the next one. Callable from any thread."""
        ...

    def close(self) -> None:
        """Let go of the connection. A `receive` that waits in another thread ends."""
        ...
