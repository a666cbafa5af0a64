"""Choosing the events that are handed to a fold, and the one at which it stops."""

from __future__ import annotations

from collections.abc import Collection
from time import time_ns
from typing import Final

from duramen.events import DuramenError, Event, EventRegistry
from duramen.events.codec import build_valid_events
from duramen.events.feed import EventBatch
from duramen.events.log import ConsumerRecord, Failure
from duramen.events.logging import raised_at

from ..notifications import EventFilter

_SKIPS: Final = 100


class Parked(Exception):
    """The build has stopped until an operator lets it go on. `cause` is the exception that stopped it."""

    def __init__(self, failure: Failure, cause: BaseException) -> None:
        super().__init__(failure.error)
        self.failure = failure
        self.cause = cause


def parked_by(
    error: BaseException, agent: str | None = None, seq: int | None = None, *, can_skip: bool = False
) -> Parked:
    """The `Parked` of an exception, with advice and without the text of the user's own exceptions."""
    own = isinstance(error, DuramenError)
    advice = str(error) if own else "correct the code and retry, or skip the event"
    place = None if own else raised_at(error)
    return Parked(Failure(type(error).__name__, agent, seq, advice, place, can_skip, time_ns() // 1000), error)


class EventSelection:
    """Used by one thread; only `skipped` and `barrier` may be read from others."""

    def __init__(self, event_filter: EventFilter, registry: EventRegistry, record: ConsumerRecord) -> None:
        self._filter = event_filter
        self._registry = registry
        self.barrier: tuple[str, int] | None = None
        """Agent and seq of the event that the user's code refused."""
        self._parked: Parked | None = None
        self._to_skip: set[tuple[str, int]] = set()
        self.reload(record)

    def reload(self, record: ConsumerRecord) -> None:
        """Go back to the skips that are stored."""
        self._count = record.skipped
        self._skips = list(record.skips)

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How many events were skipped, and the latest of them."""
        return self._count, tuple(self._skips)

    def events(self, batch: EventBatch) -> tuple[EventBatch, list[Event], Parked | None]:
        """The wanted part of a batch, its events, up to the first that stops the build, and why that one does."""
        levels, types = self._filter.levels, self._filter.types
        if not self._filter.has_every_level:
            batch = batch.select([raw[2] in levels for raw in batch.raws])
        if types is not None:
            batch = batch.select([raw[0] in types for raw in batch.raws])
        parked = None
        if self._to_skip or self.barrier:
            batch, parked = self._sort_out(batch)
        events, error = build_valid_events(batch.agents, batch.seqs, batch.raws, batch.digests, self._registry)
        if error is not None:
            parked = self.stop_at(*batch.ids[len(events)], error)
        return batch, events, parked

    def before_barrier(self, batch: EventBatch) -> int:
        """How many come before the one that stops the build."""
        return batch.ids.index(self.barrier) if self.barrier in batch.ids else len(batch)

    def stop_at(self, agent: str, seq: int, error: Exception) -> Parked:
        """Let this event stop the build from now on."""
        self.barrier = (agent, seq)
        self._parked = parked_by(error, agent, seq, can_skip=True)
        return self._parked

    def go_on(self) -> None:
        """Try again what stopped the build."""
        self.barrier = self._parked = None

    def skip(self, agent: str, seq: int) -> bool:
        """Skip this event; whether it is the one that stopped the build. Otherwise it may still come."""
        self._to_skip.add((agent, seq))
        return self.barrier == (agent, seq)

    def forget(self, agents: Collection[str]) -> None:
        """Forget which events of erased agents were skipped, but not how many."""
        self._skips = [skip for skip in self._skips if skip[0] not in agents]

    def _sort_out(self, batch: EventBatch) -> tuple[EventBatch, Parked | None]:
        """The batch up to the event that stops the build, without those that are to be skipped."""
        stop = self.before_barrier(batch)
        skips = [place for place in batch.ids[:stop] if place in self._to_skip]
        self._count += len(skips)
        self._skips = [*self._skips, *skips][-_SKIPS:]
        wanted = batch.select([at < stop and place not in skips for at, place in enumerate(batch.ids)])
        return wanted, self._parked if stop < len(batch) else None
