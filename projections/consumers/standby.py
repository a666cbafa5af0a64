"""A durable consumer that several hosts have attached: one runs it, the others read what that one stores.

standby ── nobody who lives has it ──▶ claimed ── its view is loaded ──▶ running
   ▲                                      │                                │
   └──────────────── another has claimed it since, here it was fenced ─────┘
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from attrs import evolve

from duramen.events import ConsumerParked, CorruptEvent, DataLoss, Fenced, InvalidMessage, Unavailable
from duramen.events.feed import confirm_marks
from duramen.events.log import LIVE, ConsumerRecord, Stored, fenced
from duramen.events.logging import get_logger

from .consumer import Consumer
from .plan import PARKED, STANDBY, Plan, host_of
from .selection import Parked, parked_by
from .view_builder import ViewBuilder

_LOOK: Final = 1.0
"""Seconds between two looks at the record."""
_SOON: Final = 0.05
"""Seconds between two looks while events are known that the record does not cover."""
_TRIES: Final = 5
"""Attempts to read a view in whose midst the consumer changes hands."""


class StoredView:
    """The view as it was stored last. One thread notes records and confirms; all else may be called from any thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        fresh = plan.new_record(LIVE)
        self._form, self._is_stored_here = fresh.form, fresh.kind not in ("sink", "reactor")
        self._lock = threading.Lock()
        self._loaded: tuple[str, int] | None = None
        """Token and revision of the record whose view was loaded."""
        self._view: Any = None
        self._is_stale = True
        self._wrong: Parked | None = None
        self.note(fresh)

    def note(self, record: ConsumerRecord) -> None:
        """Take this for the record that is stored."""
        self.record = record
        marks = record.cursor.marks
        self.positions: Mapping[int, int] = {
            number: marks[number].position if number in marks else 0 for number in self._plan.partitions
        }
        self._wrong = None
        if (record.token, record.revision) != self._loaded:
            self._is_stale = True

    def confirm(self) -> None:
        """Compare what the view has seen with the log; `parked` says what is wrong. Raises Unavailable."""
        log, cursor = self._plan.log, self.record.cursor
        if cursor.log != log.identity:
            lost = DataLoss("the consumer has read another log than this one", expected=cursor.log, actual=log.identity)
            self._wrong = parked_by(lost)
            return
        for error in confirm_marks(log, cursor.marks).values():
            self._wrong = parked_by(error, error.agent, error.seq)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    @property
    def is_readable(self) -> bool:
        """Whether the code here could go on with the view."""
        return self.record.form == self._form

    @property
    def parked(self) -> Parked | None:
        """Why the view does not go on, or cannot be read here."""
        failure = self.record.failure
        if not self.is_readable:
            return parked_by(self._unreadable())
        if self.record.status != PARKED or failure is None:
            return self._wrong
        message = f"consumer {self._plan.name} is parked on the host that has it by {failure.error}: {failure.advice}"
        error = ConsumerParked(message, agent=failure.agent, seq=failure.seq, actual=failure.error)
        return Parked(failure, error)

    @property
    def saved_positions(self) -> Mapping[int, int]:
        return self.positions

    @property
    def applied(self) -> int:
        return self.record.applied

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        return self.record.skipped, self.record.skips

    @property
    def view(self) -> Any:
        """The stored view; for a sink, the sink. It is loaded when another record was noted since the last time.

        Raises Unavailable, also for a view of another form; CorruptEvent; Fenced if it was removed; what `load` raises.
        """
        if not self._is_stored_here:
            return self._plan.new_storage().view
        with self._lock:
            if self._is_stale:
                self._is_stale = False
                try:
                    self._load()
                except BaseException:
                    self._is_stale = True
                    raise
            return self._view

    def _load(self) -> None:
        store = self._plan.store
        for _ in range(_TRIES):
            record, storage, failed = self._find(), self._plan.new_storage(), None
            if record.form != self._form:
                raise self._unreadable()
            try:
                storage.load(store, record)
            except CorruptEvent as error:  # or it was replaced meanwhile
                failed = error
            if self._find().token != record.token:
                continue
            if failed is not None:
                raise failed
            self._view, self._loaded = storage.view, (record.token, record.revision)
            return
        raise Unavailable(f"consumer {self._plan.name} goes from host to host; read its view again")

    def _find(self) -> ConsumerRecord:
        stored = self._plan.store.find(self._plan.name)
        record = stored.live or stored.next
        if record is None:
            raise fenced(self._plan.name, None)
        return record

    def _unreadable(self) -> Unavailable:
        return Unavailable(
            f"the view of consumer {self._plan.name} that another host has is of another version or scope, and is not "
            "read here; it is rebuilt when this host takes it over"
        )


class SharedConsumer:
    """As `Consumer`, but only while no other host that lives has the name. Used by one thread, as that.

    `lives_elsewhere` says of a host whether it is another one, and lives.
    """

    def __init__(self, plan: Plan, new_owner: Callable[[], str], lives_elsewhere: Callable[[str], bool]) -> None:
        self._plan = plan
        self._new_owner = new_owner
        self._lives_elsewhere = lives_elsewhere
        self._stored = StoredView(plan)
        self._claimed: Consumer | None = None
        self._running: Consumer | None = None
        """The claimed one, once it has loaded its view: until then the stored one is read."""
        self._looked_at = -inf
        self._is_behind = False
        """Whether events are known that the record does not cover."""
        self._was_gone = False
        self._logger = get_logger("projection").bind(consumer=plan.name)

    # -- from any thread ---------------------------------------------------------------------------------------------

    @property
    def current(self) -> ViewBuilder | StoredView:
        """The view that users read."""
        running = self._running
        return self._stored if running is None else running.current

    @property
    def building(self) -> ViewBuilder | StoredView:
        """The view that is being built, or the one that users read."""
        running = self._running
        return self._stored if running is None else running.building

    @property
    def status(self) -> str:
        running = self._running
        return STANDBY if running is None else running.status

    @property
    def parked(self) -> Parked | None:
        """As `Consumer.parked`; in standby, by what is stored."""
        running = self._running
        return self._stored.parked if running is None else running.parked

    @property
    def barrier(self) -> tuple[str, int] | None:
        """As `Consumer.barrier`; in standby, by what is stored."""
        running = self._running
        if running is not None:
            return running.barrier
        failure = self._stored.record.failure
        if failure is None or not failure.can_skip or failure.agent is None or failure.seq is None:
            return None
        return failure.agent, failure.seq

    @property
    def is_sound(self) -> bool:
        """As `Consumer.is_sound`; in standby, once the record was looked at."""
        running = self._running
        if running is not None:
            return running.is_sound
        parked = self._stored.parked
        return self._looked_at > -inf and (parked is None or parked.failure.can_skip)

    @property
    def is_live(self) -> bool:
        """As `Consumer.is_live`; what is stored is what users see in standby."""
        running = self._running
        return running is None or running.is_live

    def request(self, what: str, agent: str | None = None, seq: int | None = None) -> threading.Event:
        """As `Consumer.request`. Raises InvalidMessage in standby."""
        running = self._running
        if running is None:
            raise InvalidMessage(
                f"consumer {self._plan.name} stands by here, and is not told to {what}: "
                f"system.consumers.{what}({self._plan.name!r}) asks the host that has it",
                actual=STANDBY,
            )
        return running.request(what, agent, seq)

    def abandon(self) -> None:
        """As `Consumer.abandon`."""
        claimed = self._claimed
        if claimed is not None:
            claimed.abandon()

    def after_fork(self) -> None:
        """As `Consumer.after_fork`."""
        self._stored.after_fork()
        if self._claimed is not None:
            self._claimed.after_fork()

    # -- by its thread -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Claim the name, or stand by.

        Raises as `Consumer.open`; InvalidMessage for what would have to be rebuilt, and cannot be.
        """
        stored = self._plan.store.find(self._plan.name)
        if self._is_free(stored):
            self._claimed = self._running = self._claim()
            try:
                self._claimed.announce()
            except Fenced:
                self._give_way(self._claimed)
            return
        record = stored.live or stored.next
        assert record is not None, "somebody has it"
        self._stored.note(record)
        self._looked_at = monotonic()
        if not self._stored.is_readable and not self._plan.can_rebuild:
            assert self._plan.reset is not None, "any view can be rebuilt"
            self._plan.reset()  # which refuses
        self._logger.info("consumer_stands_by")

    def turn(self, moved: Mapping[int, int], *, urgent: bool) -> bool:
        """As `Consumer.turn`; in standby, a look whether the name is free. Raises Fenced only if it was removed."""
        if self._claimed is None:
            # What callers wait for is looked for at once: an error that they get must not be of before their call.
            if not moved and self.pause() > 0:
                return False
            is_free = self._look()
            self._is_behind = self._is_behind_of(moved)
            if not is_free:
                return False
            self._claimed = self._claim()
            self._logger.info("consumer_taken_over")
        consumer = self._claimed
        try:
            if self._running is None:
                consumer.announce()
            busy = consumer.turn(moved, urgent=urgent)
        except Fenced:
            self._give_way(consumer)
            return False
        self._running = consumer
        return busy

    def confirm(self) -> None:
        """As `Consumer.confirm`."""
        running = self._running
        if running is None:
            self._stored.confirm()
            return
        try:
            running.confirm()
        except Fenced:
            self._give_way(running)

    def pause(self) -> float:
        """As `Consumer.pause`; in standby, the seconds until the next look is due."""
        if self._claimed is not None:
            return self._claimed.pause()
        return max(0.0, self._looked_at + (_SOON if self._is_behind else _LOOK) - monotonic())

    def finish(self) -> None:
        """As `Consumer.finish`. Where another has it, nothing is touched."""
        if self._claimed is None:
            return
        try:
            self._claimed.finish()
        except Fenced:
            self._give_way(self._claimed)

    def close(self) -> None:
        """As `Consumer.close`."""
        if self._claimed is not None:
            self._claimed.close()

    def _claim(self) -> Consumer:
        consumer = Consumer(evolve(self._plan, owner=self._new_owner()))
        consumer.open()
        return consumer

    def _look(self) -> bool:
        """Note what is stored; whether nobody has it. Raises Unavailable; Fenced if it was removed."""
        stored = self._plan.store.find(self._plan.name)
        record = stored.live or stored.next
        if record is None:
            if self._was_gone:  # not just between two writes of one who empties a sink
                raise fenced(self._plan.name, None)
            self._was_gone, self._looked_at = True, monotonic()
            return False
        self._was_gone = False
        self._stored.note(record)
        is_free = self._is_free(stored)
        self._looked_at = monotonic()
        return is_free

    def _is_free(self, stored: Stored) -> bool:
        records = [record for record in (stored.live, stored.next) if record is not None]
        return not any(self._lives_elsewhere(host_of(record)) for record in records)

    def _is_behind_of(self, moved: Mapping[int, int]) -> bool:
        positions = self._stored.positions
        return any(position == 0 or position > positions.get(number, 0) for number, position in moved.items())

    def _give_way(self, consumer: Consumer) -> None:
        """Stand by again: another has claimed the name. If the consumer was removed, the next looks find that."""
        consumer.close()
        if self._running is not None:
            self._stored.note(consumer.current.record)
        self._looked_at, self._is_behind = -inf, True
        self._claimed = self._running = None
        self._logger.info("consumer_stands_by")
