"""The channels that a hub follows, as long as it can listen to all that comes."""

from __future__ import annotations

from collections.abc import Collection

from duramen.events.feed import complete_batches
from duramen.events.log import Notice, NoticeStream

from .overload import Overload

__all__ = ["Channels"]


class Channels:
    """Used by one thread, but for `wake`. While there is too much to listen to, nothing is followed."""

    def __init__(self, stream: NoticeStream) -> None:
        self._stream = stream
        self._overload = Overload()
        self._wanted: tuple[frozenset[int], int] = (frozenset(), 0)
        self._followed: tuple[frozenset[int], int] = (frozenset(), 0)

    @property
    def strange(self) -> int:
        """As `NoticeStream.strange`."""
        return self._stream.strange

    @property
    def deaf(self) -> bool:
        """Whether nothing is heard for a while, so that it is time to look every now and then."""
        return self._overload.looks

    def follow(self, partitions: Collection[int], level: int) -> None:
        """As `NoticeStream.follow`, as soon as there is not too much to listen to."""
        self._wanted = frozenset(partitions), level
        self._tune()

    def receive(self, timeout: float) -> tuple[dict[int, int], list[list[Notice]]]:
        """The partitions that may have moved, as `NoticeStream.receive`, and the batches that were told in full."""
        hints = self._stream.receive(timeout)
        told = self._stream.told()
        self._overload.heard(len(told))
        self._tune()
        return hints, complete_batches(told)

    def wake(self) -> None:
        """End a `receive` that waits, or the next one. Callable from any thread."""
        self._stream.wake()

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()

    def _tune(self) -> None:
        tuned = (frozenset[int](), self._wanted[1]) if self.deaf else self._wanted
        if tuned != self._followed:
            self._followed = tuned
            self._stream.follow(*tuned)
