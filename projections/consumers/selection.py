"""Which of the events that were read a build hands to its fold, and at which of them it stops."""

from __future__ import annotations

from time import time_ns
from typing import Final

from duramen.events import DuramenError, Event, EventRegistry
from duramen.events.codec import build_valid_events
from duramen.events.feed import EventBatch
from duramen.events.log import ConsumerRecord, Failure
from duramen.events.logging import raised_at

from ..notifications import Scope

__all__ = ["EventSelection", "Parked", "halt"]

_SKIPS: Final = 100


class EventSelection:
    """Used by one thread, but for `skipped` and `barrier`."""

    def __init__(self, scope: Scope, registry: EventRegistry, record: ConsumerRecord) -> None:
        self._scope = scope
        self._registry = registry
        self.barrier: tuple[str, int] | None = None
        """Agent and seq of the event that the user's code refused."""
        self._stopped: Parked | None = None
        self._leave_out: set[tuple[str, int]] = set()
        self.reload(record)

    def reload(self, record: ConsumerRecord) -> None:
        """Go back to what is stored of what was skipped."""
        self._count = record.skipped
        self._skips = list(record.skips)

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How many events were left out, and the latest of them."""
        return self._count, tuple(self._skips)

    def events(self, facts: EventBatch) -> tuple[EventBatch, list[Event], Parked | None]:
        """Those facts that are wanted, as events, up to the first that stops the build, and why it does."""
        levels, types = self._scope.levels, self._scope.types
        if not self._scope.every_level:
            facts = facts.only([raw[2] in levels for raw in facts.raws])
        if types is not None:
            facts = facts.only([raw[0] in types for raw in facts.raws])
        halted = None
        if self._leave_out or self.barrier:
            facts, halted = self._sort_out(facts)
        events, error = build_valid_events(facts.agents, facts.seqs, facts.raws, facts.digests, self._registry)
        if error is not None:
            halted = self.stop_at(*facts.places[len(events)], error)
        return facts, events, halted

    def before_barrier(self, facts: EventBatch) -> int:
        """How many come before the one that stops the build."""
        return facts.places.index(self.barrier) if self.barrier in facts.places else len(facts)

    def stop_at(self, agent: str, seq: int, error: Exception) -> Parked:
        """Let this event stop the build from now on."""
        self.barrier = (agent, seq)
        self._stopped = halt(error, agent, seq, can_skip=True)
        return self._stopped

    def go_on(self) -> None:
        """Try again what stopped the build."""
        self.barrier = self._stopped = None

    def leave_out(self, agent: str, seq: int) -> bool:
        """Skip this event; whether it is the one that stopped the build. Otherwise it may still come."""
        self._leave_out.add((agent, seq))
        return self.barrier == (agent, seq)

    def _sort_out(self, facts: EventBatch) -> tuple[EventBatch, Parked | None]:
        """Without those that are to be skipped, up to the one that stops the build."""
        stop = self.before_barrier(facts)
        skips = [place for place in facts.places[:stop] if place in self._leave_out]
        self._count += len(skips)
        self._skips = [*self._skips, *skips][-_SKIPS:]
        wanted = facts.only([at < stop and place not in skips for at, place in enumerate(facts.places)])
        return wanted, self._stopped if stop < len(facts) else None


class Parked(Exception):
    """The build stands still until somebody tells it to go on. `cause` is what was raised."""

    def __init__(self, failure: Failure, cause: BaseException) -> None:
        super().__init__(failure.error)
        self.failure = failure
        self.cause = cause


def halt(error: BaseException, agent: str | None = None, seq: int | None = None, *, can_skip: bool = False) -> Parked:
    own = isinstance(error, DuramenError)
    advice = str(error) if own else "correct the code and retry, or skip the event"
    place = None if own else raised_at(error)
    return Parked(Failure(type(error).__name__, agent, seq, advice, place, can_skip, time_ns() // 1000), error)
