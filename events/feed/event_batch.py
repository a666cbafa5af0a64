"""Stored events as a reader of a feed returns them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Final, TypeVar

from attrs import define

from ..codec import RawEvent
from ..model import Granularity, Mark
from .window import Window

T = TypeVar("T")
_HIGHEST: Final = max(Granularity)


@define(eq=False)
class FeedEvent:
    """A stored event, decoded, its digest checked. Do not change it. Equal to itself only: compare fields.

    `position` and `offset` are the reader's place after it.
    """

    agent: str
    seq: int
    raw: RawEvent
    digest: bytes
    position: int
    offset: int

    @property
    def mark(self) -> Mark:
        """The reader's place after this event."""
        return Mark(self.position, self.offset, self.agent, self.seq, self.digest)


@define(eq=False)
class EventBatch:
    """Consecutive events in columns, for readers of millions: each column has an element an event."""

    agents: Sequence[str]
    seqs: Sequence[int]
    raws: Sequence[RawEvent]
    digests: Sequence[bytes]
    _numbers: Sequence[int]
    """The numbers of the events in the window."""
    _window: Window

    def __len__(self) -> int:
        return len(self.raws)

    @property
    def ids(self) -> list[tuple[str, int]]:
        """Agent and seq of each event; made at each call."""
        return list(zip(self.agents, self.seqs, strict=True))

    def mark(self, index: int) -> Mark:
        """The reader's place after one of the events."""
        return self._window.mark(self._numbers[index])

    def select(self, chosen: Sequence[bool]) -> EventBatch:
        """The events for which `chosen` has True."""
        if all(chosen):
            return self

        def selected(column: Sequence[T]) -> list[T]:
            return list(compress(column, chosen))

        columns = selected(self.agents), selected(self.seqs), selected(self.raws), selected(self.digests)
        return EventBatch(*columns, selected(self._numbers), self._window)

    def events(self) -> list[FeedEvent]:
        """The events as objects."""
        place_after = self._window.places.after
        columns = zip(self.agents, self.seqs, self.raws, self.digests, self._numbers, strict=True)
        return [FeedEvent(agent, seq, raw, digest, *place_after(number)) for agent, seq, raw, digest, number in columns]


def event_batch_of(window: Window, start: int, raws: Sequence[RawEvent], level: int) -> EventBatch:
    """The decoded events of a window from number `start` on, without those above a level."""
    stop = start + len(raws)
    agents, seqs, digests = window.agents[start:stop], window.seqs[start:stop], window.digests[start:stop]
    batch = EventBatch(agents, seqs, raws, digests, range(start, stop), window)
    return batch if level >= _HIGHEST else batch.select([raw[2] <= level for raw in raws])
