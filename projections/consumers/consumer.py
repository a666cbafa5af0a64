"""A durable consumer at work: the view that is read, the one that is built beside it, and what operators ask of them.

catching_up ◀──▶ live ── its code raised, the log is not what it was ──▶ parked ── retry, skip ──▶ catching_up
     ▲             │                                                       │
     └─ switched ──┴──────────── rebuilding ◀── rebuild, another version ──┘

From anywhere: fenced (another process has taken the name over), closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from attrs import define, evolve, field

from duramen.events import Cursor, DuramenError, EventRegistry, Limits, Unavailable
from duramen.events.log import LIVE, NEXT, ConsumerRecord, ConsumerRequest, ConsumerStore, EventLog, Slot, fenced
from duramen.events.logging import get_logger

from ..notifications import Scope
from .selection import Parked
from .view_builder import ViewBuilder
from .view_storage import ViewStorage

__all__ = [
    "CATCHING_UP",
    "CLOSED",
    "FENCED",
    "LIVE_STATUS",
    "PARKED",
    "REBUILD",
    "REBUILDING",
    "RETRY",
    "SKIP",
    "Consumer",
    "Plan",
]

CATCHING_UP: Final = "catching_up"
LIVE_STATUS: Final = "live"
PARKED: Final = "parked"
REBUILDING: Final = "rebuilding"
FENCED: Final = "fenced"
CLOSED: Final = "closed"

RETRY: Final = "retry"
SKIP: Final = "skip"
REBUILD: Final = "rebuild"

_HEARTBEAT: Final = 1.0


@define(eq=False, kw_only=True)
class Plan:
    """What a consumer is made of. `kept` makes an empty fold; `reset` empties tables that cannot be built beside."""

    log: EventLog
    name: str
    scope: Scope
    kept: Callable[[], ViewStorage]
    reset: Callable[[], None] | None
    can_rebuild: bool
    after: Cursor
    registry: EventRegistry
    limits: Limits
    owner: str

    @property
    def views(self) -> ConsumerStore:
        return self.log.consumer_store()

    def fresh(self, slot: Slot) -> ConsumerRecord:
        """The record of a view that is begun."""
        kept = self.kept()
        return ConsumerRecord(
            name=self.name,
            slot=slot,
            kind=kept.kind,
            version=kept.version,
            scope=self.scope.text,
            cursor=self.after,
            status=CATCHING_UP if slot == LIVE else REBUILDING,
        )


@define(eq=False)
class _Side:
    """A build, and how it fares."""

    build: ViewBuilder
    status: str
    halted: Parked | None = None


@define(eq=False)
class _Order:
    what: str
    agent: str | None = None
    seq: int | None = None
    wish: ConsumerRequest | None = None
    done: threading.Event = field(factory=threading.Event)


class Consumer:
    """Used by one thread, but for the properties. `open` claims the name; `turn` does what there is to do."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._views = plan.views
        self._live: _Side | None = None
        self._next: _Side | None = None
        self._ends: Sequence[int] = ()
        self._beat_at = 0.0
        self._seen: str | None = None
        self._orders: list[_Order] = []
        self._left = False
        self._logger = get_logger("projection").bind(consumer=plan.name)

    # -- for everybody -----------------------------------------------------------------------------------------------

    @property
    def side(self) -> _Side:
        """The view that is read; the one that is being built where there is no other."""
        found = self._live or self._next
        assert found is not None, "not opened"
        return found

    @property
    def building(self) -> ViewBuilder:
        """The view that is being built, or the one that is read."""
        return (self._next or self.side).build

    @property
    def status(self) -> str:
        beside = self._next
        if beside is not None:
            return REBUILDING if beside.halted is None else PARKED
        return self.side.status

    @property
    def halted(self) -> Parked | None:
        """Why the view that is read does not go on, unless another is about to take its place."""
        live, beside = self._live, self._next
        if beside is not None:
            return beside.halted
        return None if live is None else live.halted

    @property
    def barrier(self) -> tuple[str, int] | None:
        """Agent and seq of the event at which it is parked, if its own code refused it."""
        side = self._next if self._next is not None and self._next.halted is not None else self.side
        return side.build.barrier

    @property
    def switched(self) -> bool:
        """Whether there is a view that others read, so that what is saved is what they see."""
        return self._live is not None

    def order(self, what: str, agent: str | None = None, seq: int | None = None) -> threading.Event:
        """To be carried out at the next turn; set when it is. Callable from any thread."""
        order = _Order(what, agent, seq)
        self._orders.append(order)
        return order.done

    def leave(self) -> None:
        """Store nothing any more, and have nothing read. Callable from any thread."""
        self._left = True
        for side in self._sides():
            side.build.prefetching.kill()

    def close(self) -> None:
        """Have nothing read any more. By the thread that used it, at its end."""
        for side in self._sides():
            side.build.close()

    def after_fork(self) -> None:
        """In a forked child, where that thread does not live."""
        for side in self._sides():
            side.build.prefetching.after_fork()

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Claim the name. Raises Unavailable, CorruptEvent, and what the sink's `reset` raises."""
        plan, views = self._plan, self._views
        stored = views.look(plan.name)
        live = views.claim(plan.fresh(LIVE), plan.owner)
        if live is None and plan.reset is not None:
            plan.reset()
            views.remove(plan.name)
            live = views.claim(plan.fresh(LIVE), plan.owner)
        if live is not None:
            self._live = _Side(self._build(live), CATCHING_UP)
        interrupted = stored.next is not None and stored.next.form == plan.fresh(NEXT).form
        if live is None or interrupted:
            self._begin_next(anew=False)
        if stored.wish is not None:
            self._hear(stored.wish)

    def _build(self, record: ConsumerRecord) -> ViewBuilder:
        plan = self._plan
        return ViewBuilder(
            plan.log, self._views, plan.kept(), plan.scope, record, registry=plan.registry, limits=plan.limits
        )

    def _begin_next(self, *, anew: bool) -> None:
        if self._next is not None:
            self._next.build.close()
        record = self._views.claim(self._plan.fresh(NEXT), self._plan.owner, anew=anew)
        assert record is not None, "a view that is being built is replaced, whatever it is"
        self._next = _Side(self._build(record), REBUILDING)

    # -- working -----------------------------------------------------------------------------------------------------

    def turn(self, hints: Mapping[int, int], *, urgent: bool) -> bool:
        """One round: look, obey, read, store; whether there is more to read. Raises Unavailable, Fenced."""
        self._obey()
        if monotonic() - self._beat_at >= _HEARTBEAT:
            self._beat()
        busy = False
        for side in self._sides():
            side.build.hint(hints)
            busy = self._advance(side) or busy
        self._promote()
        for side in self._sides():
            self._store(side, idle=not busy, urgent=urgent)
        return busy

    def pause(self) -> float:
        """Seconds until there is something to do by itself."""
        waiting = any(side.build.dirty for side in self._sides() if side.halted is None)
        return 0.02 if waiting else max(0.0, self._beat_at + _HEARTBEAT - monotonic())

    def finish(self) -> None:
        """Store where everything stands, for the last time. Raises Unavailable, Fenced."""
        for side in self._sides():
            if side.halted is None:
                self._save(side, CLOSED if side is self._live else REBUILDING)

    def _sides(self) -> list[_Side]:
        return [side for side in (self._live, self._next) if side is not None]

    def _beat(self) -> None:
        """Look at the log and the store, whatever was heard."""
        before, self._ends = self._ends, self._plan.log.positions()
        stored = self._views.look(self._plan.name)
        for side, found in ((self._live, stored.live), (self._next, stored.next)):
            if side is not None and (found is None or found.token != side.build.record.token):
                raise fenced(self._plan.name, found)
        for side in self._sides():
            side.build.look(self._ends)
            if side.status == LIVE_STATUS and before and side.build.behind(before):
                side.status = CATCHING_UP
        self._hear(stored.wish)
        self._beat_at = monotonic()

    def _advance(self, side: _Side) -> bool:
        if side.halted is not None:
            return False
        try:
            busy = side.build.step()
        except Parked as halted:
            self._park(side, halted)
            return False
        if not busy and side is self._live:
            side.status = LIVE_STATUS
        return busy

    def _promote(self) -> None:
        """Put the view that was built in the place of the other when it has come as far."""
        live, beside = self._live, self._next
        if beside is None or beside.halted is not None or beside.build.todo:
            return
        # A view that is parked may have read what the log has lost.
        if live is not None and live.halted is None and beside.build.behind_of(live.build.positions):
            beside.build.hint(live.build.positions)
            return
        if not self._save(beside, LIVE_STATUS):
            return
        beside.build.switch()
        beside.status = LIVE_STATUS
        if live is not None:
            live.build.close()
        self._live, self._next = beside, None
        self._logger.info("view_switched", version=beside.build.record.version, events=beside.build.applied)

    # -- storing -----------------------------------------------------------------------------------------------------

    def _store(self, side: _Side, *, idle: bool, urgent: bool) -> None:
        build = side.build
        if side.halted is not None:
            return
        if build.due(side.status, idle=idle) or (urgent and idle and build.dirty):
            self._save(side, side.status)

    def _save(self, side: _Side, status: str, done: ConsumerRequest | None = None) -> bool:
        """Whether view and cursor are stored now."""
        if self._left:
            return False
        try:
            failure = None if side.halted is None else side.halted.failure
            self._hear(side.build.save(status, failure, done))
        except Parked as halted:
            self._park(side, halted)
            return False
        return not side.build.dirty

    def _park(self, side: _Side, halted: Parked) -> None:
        side.status, side.halted = PARKED, halted
        if self._left:
            return
        failure = halted.failure
        self._logger.warning(
            "consumer_parked", error=failure.error, agent=failure.agent, seq=failure.seq, at=failure.place
        )
        side.status = PARKED
        try:
            self._hear(side.build.save(PARKED, failure))
        except Parked:  # it is the view that cannot be stored: then the one before stays
            side.build.note(PARKED, failure)

    # -- orders ------------------------------------------------------------------------------------------------------

    def _hear(self, wish: ConsumerRequest | None) -> None:
        if wish is not None and wish.id != self._seen:
            self._seen = wish.id
            self._orders.append(_Order(wish.what, wish.agent, wish.seq, wish))

    def _obey(self) -> None:
        while self._orders:
            order = self._orders[0]
            self._carry_out(order)
            order.done.set()
            if order.wish is not None:
                self._save(self.side, self.side.status, order.wish)
            self._orders.pop(0)

    def _carry_out(self, order: _Order) -> None:
        self._logger.info("consumer_told", what=order.what, agent=order.agent, seq=order.seq)
        if order.what == REBUILD:
            self._rebuild()
            return
        for side in self._sides():
            goes_on = order.what == RETRY
            if order.what == SKIP:
                goes_on = side.build.skip(order.agent or "", order.seq or 0)
            if side.halted is None or not goes_on:
                continue
            if order.what == RETRY:
                side.build.retry()
            side.halted = None
            side.status = CATCHING_UP if side is self._live else REBUILDING

    def _rebuild(self) -> None:
        if self._next is not None and self._next.halted is None:
            return  # one is under way
        reset, live = self._plan.reset, self._live
        if reset is None or live is None:
            self._begin_next(anew=True)
            return
        try:
            reset()
        except Unavailable:
            raise
        except DuramenError as error:
            self._logger.warning("rebuild_refused", error=type(error).__name__)
            return
        except Exception as error:  # the user's own code, and whatever its driver raises
            raise Unavailable(f"the tables cannot be emptied now ({type(error).__name__})") from error
        fresh = self._plan.fresh(LIVE)
        record = evolve(fresh, token=live.build.record.token, revision=live.build.record.revision)
        live.build.close()
        self._live = _Side(self._build(record), CATCHING_UP)
