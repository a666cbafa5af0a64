"""Stored events as a reader of a feed hands them out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Final, TypeVar

from attrs import define

from ..codec import RawEvent
from ..model import Granularity, Mark
from .window import Window

__all__ = ["EventBatch", "FeedEvent", "event_batch_of"]

T = TypeVar("T")
_HIGHEST: Final = max(Granularity)


@define(eq=False)
class FeedEvent:
    """A stored event as it was read: decoded, its digest checked. Do not change it.

    `position` and `offset` are the reader's place behind it. Equal to itself only: compare fields.
    """

    agent: str
    seq: int
    raw: RawEvent
    digest: bytes
    position: int
    offset: int

    @property
    def mark(self) -> Mark:
        """The reader's place behind this event."""
        return Mark(self.position, self.offset, self.agent, self.seq, self.digest)


@define(eq=False)
class EventBatch:
    """Consecutive facts in columns, an element of each for each of them: for who reads a million."""

    agents: Sequence[str]
    seqs: Sequence[int]
    raws: Sequence[RawEvent]
    digests: Sequence[bytes]
    _numbers: Sequence[int]
    """Of the events in the window."""
    _window: Window

    def __len__(self) -> int:
        return len(self.raws)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Agent and seq of each; made at each call."""
        return list(zip(self.agents, self.seqs, strict=True))

    def mark(self, index: int) -> Mark:
        """The reader's place behind one of them."""
        return self._window.mark(self._numbers[index])

    def only(self, chosen: Sequence[bool]) -> EventBatch:
        """Those for which `chosen` has True; not the marks of the others."""
        if all(chosen):
            return self

        def those(column: Sequence[T]) -> list[T]:
            return list(compress(column, chosen))

        columns = those(self.agents), those(self.seqs), those(self.raws), those(self.digests)
        return EventBatch(*columns, those(self._numbers), self._window)

    def each(self) -> list[FeedEvent]:
        """As objects."""
        behind = self._window.places.behind
        columns = zip(self.agents, self.seqs, self.raws, self.digests, self._numbers, strict=True)
        return [FeedEvent(agent, seq, raw, digest, *behind(number)) for agent, seq, raw, digest, number in columns]


def event_batch_of(window: Window, start: int, raws: Sequence[RawEvent], level: int) -> EventBatch:
    """Of events of a window from one on that were decoded, those up to a level."""
    stop = start + len(raws)
    agents, seqs, digests = window.agents[start:stop], window.seqs[start:stop], window.digests[start:stop]
    facts = EventBatch(agents, seqs, raws, digests, range(start, stop), window)
    return facts if level >= _HIGHEST else facts.only([raw[2] <= level for raw in raws])
