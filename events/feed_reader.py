"""Events of many agents in the order in which they were committed, read from the feed and the logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from .codec import Codec, RawEvent
from .cursor import START, Mark
from .log import EventLog

__all__ = ["EVERY_LEVEL", "Fact", "FeedReader"]

EVERY_LEVEL: Final = 4


@frozen
class Fact:
    """A stored event as it was read: decoded, its digest checked. `mark` is the reader's place behind it."""

    agent: str
    seq: int
    raw: RawEvent
    digest: bytes
    mark: Mark


class FeedReader:
    """Reads one partition. Used by one thread at a time; keeps nothing but its mark.

    Only events of granularity `level` or less, of agents that `wants` says yes to, are read and returned; the mark
    moves past the others all the same.
    """

    def __init__(
        self,
        log: EventLog,
        codec: Codec,
        partition: int,
        mark: Mark = START,
        *,
        level: int = EVERY_LEVEL,
        wants: Callable[[str], bool] | None = None,
    ) -> None:
        self._log = log
        self._codec = codec
        self._partition = partition
        self._level = level
        self._wants = wants
        self.mark = mark
        """Behind everything that `read` has returned or passed over."""

    def read(self, most: int) -> list[Fact]:
        """The next events in commit order, about `most` of them; none at the end of the feed.

        The first call looks whether the log still is what the mark was taken from. Raises Diverged (another event
        stands there), DataLoss (the feed is shorter than the mark), Trimmed (what comes next was trimmed),
        CorruptEvent, and what reading raises.
        """
        raise NotImplementedError
