"""Keeping one view of a consumer up to date: read, fold, and store view and cursor in one write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from time import monotonic, time_ns
from typing import Any, Final

from attrs import evolve

from duramen.events import DataLoss, DuramenError, Fenced, Unavailable
from duramen.events.feed import EventBatch
from duramen.events.log import LIVE, ConsumerRecord, ConsumerRequest, ConsumerStore, Failure, Saved, fenced
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import Mark

from .partition_readers import PartitionReaders
from .plan import Plan
from .selection import EventSelection, Parked, parked_by
from .view_storage import Refused

_TURN: Final = 0.4
"""Seconds for the partitions that have their turn; then the consumer does what else there is to do."""
_FAR: Final = 1_000
"""Appends that a partition is far behind by."""
_SHARE: Final = 19
"""Times as long as the last save the next one waits: 5 % of the time goes into saving."""
_LONGEST: Final = 2.0
"""Seconds after which an idle view is stored, however long that takes."""
_QUIET: Final = 1.0
"""Seconds between saves where only events that are not wanted have been read."""


class ViewBuilder:
    """Used by one thread; only `view`, `applied`, `skipped` and the positions may be read from others.

    loading ──▶ reading ◀──▶ at the end
       ▲           │ Refused: the state of the fold is undefined
       └───────────┤ loaded again, read up to the event that was refused
                   ▼
                 Parked ── retry, skip ──▶ reading
    """

    def __init__(self, plan: Plan, record: ConsumerRecord) -> None:
        self._log = plan.log
        self._identity = plan.log.identity
        self._store = plan.store
        self._storage = plan.new_storage()
        self._selection = EventSelection(plan.event_filter, plan.registry, record)
        self.reading = PartitionReaders(plan)
        self._writer = RecordWriter(self._store, record)
        self._turn = 0
        """The partition that comes first at the next step, or the next one after it that has something."""
        self._held = -1
        """The partition whose pages were held since the step before: where its feed ends may have changed."""
        self._is_stale = True
        """Whether the fold has to be loaded before it can be used."""
        self.applied = record.applied
        """Events handed to the fold since the view was begun."""
        self._unsaved = 0
        self._moved = False
        self._saved_at = 0.0
        self._cost = 0.0
        self.saved_positions: Mapping[int, int] = {}

    @property
    def record(self) -> ConsumerRecord:
        """As it is in the store, as far as is known here."""
        return self._writer.record

    @property
    def view(self) -> Any:
        """The view that users read."""
        return self._storage.view

    @property
    def positions(self) -> Mapping[int, int]:
        """By partition, the appends that are done with."""
        return self.reading.positions

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How many events were skipped, and the latest of them."""
        return self._selection.skipped

    # -- reading -----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Read partitions by turns, for a while, then a page of those that have little; whether there is more.

        Raises Parked, Unavailable, Fenced. After Unavailable the next call goes on where this one has come to.
        """
        try:
            self._step()
        except BaseException as error:
            self.reading.release()
            if isinstance(error, Parked):
                self.reading.prefetching.close()
            raise
        return bool(self.reading.todo)

    def _step(self) -> None:
        if self._is_stale:
            self._load()
        reading = self.reading
        readers, prefetching = reading.readers, reading.prefetching
        until = monotonic() + _TURN
        if self.barrier is None:
            reading.start_prefetching()
        moved = self._apply_prefetched(until)
        partitions = sorted(reading.todo, key=lambda each: (each < self._turn, each))
        reading.fetch(partitions)
        for partition in partitions:
            has_turn = not moved or monotonic() < until
            moved = True
            if self._is_stale or prefetching.holds(partition):
                continue
            if not has_turn and readers[partition].lag > _FAR:
                continue  # reading a little of much, time and again, costs more than it is worth
            self._read(partition, until)
            if self._is_stale:
                self._turn = partition  # again, so that two refused events do not alternate
            elif has_turn:  # what was fetched is used first: to fetch it again costs more than it is worth
                self._turn = partition + readers[partition].is_idle
        self._apply_prefetched(until, wait=True)
        self._held = self._turn
        reading.release(hold=self._held)

    def _read(self, partition: int, until: float) -> None:
        """Read a partition window by window until the time is up; a page at least."""
        late = wanted = False
        while not (late or wanted or self._is_stale) and partition in self.reading.todo:
            self._apply_page(partition, ahead=monotonic() < until)
            self._apply_prefetched(until, apart=partition)
            late, wanted = monotonic() >= until, self.reading.prefetching.wants(partition)
        if wanted:
            self.reading.readers[partition].release()

    def _apply_prefetched(self, until: float, *, apart: int | None = None, wait: bool = False) -> bool:
        """Apply what another process has read, if there is one; with `wait` until then. Whether there was something.

        Partition `apart` is read here, and not by it.
        """
        some = False
        while not self._is_stale and monotonic() < until:
            partition = self.reading.prefetching.next(self.reading.readers, apart, until if wait else 0.0)
            if partition is None:
                break
            self._apply_page(partition, ahead=False)
            some = True
        return some

    def confirm(self) -> None:
        """Compare what was read with the log. Raises Parked (Diverged, DataLoss), Unavailable."""
        error = None if self._is_stale else self.reading.find_replaced()
        if error is not None:
            raise parked_by(error, error.agent, error.seq)

    def close(self) -> None:
        """Drop all that was fetched, and end the process that reads ahead, if there is one."""
        self.reading.close()

    def _load(self) -> None:
        self.reading.prefetching.close()
        try:
            cursor = self._storage.load(self._store, self.record)
        except (Unavailable, Fenced):
            raise
        except Exception as error:  # load is the user's own code
            raise parked_by(error) from error
        if cursor.log != self._identity:
            raise parked_by(
                DataLoss(
                    "the consumer has read another log than this one: it was lost, or replaced; rebuild the view",
                    expected=cursor.log,
                    actual=self._identity,
                )
            )
        self.reading.restart(cursor.marks)
        self.applied = self.record.applied
        self._selection.reload(self.record)
        self._unsaved, self._moved = 0, False
        self.saved_positions = self.positions
        self._is_stale = False

    def _apply_page(self, partition: int, *, ahead: bool) -> None:
        reading = self.reading
        reader = reading.readers[partition]
        before = reader.mark
        try:
            batch = reading.read(partition, self._storage.page, ahead=ahead)
        except Unavailable:
            raise
        except DuramenError as error:
            raise parked_by(error, error.agent, error.seq) from error
        parked = None if batch is None else self._apply(partition, batch)
        if self._is_stale:
            return
        if batch is not None and parked is not None:
            stop = self._selection.before_barrier(batch)
            reading.move(partition, batch.mark(stop - 1) if stop else before)
        elif (batch is None or (reader.lag == 0 and partition != self._held)) and not reading.prefetching.holds(
            partition
        ):
            reading.todo.discard(partition)
        self._moved = self._moved or reading.readers[partition].mark != before
        reading.note_positions()
        if parked is not None:
            raise parked

    def _apply(self, partition: int, batch: EventBatch) -> Parked | None:
        """Fold the wanted events of a batch; why the build stops at the one after them. The fold may be stale then."""
        chosen, events, parked = self._selection.events(batch)
        self._is_stale = True  # unless all goes well, the reader is ahead of the fold
        try:
            self._storage.apply(
                events, lambda index: self.reading.cursor(partition, chosen.mark(index) if index >= 0 else None)
            )
        except Refused as refused:
            # The fold may hold half of that event. It is loaded again, and then read up to there.
            self._selection.stop_at(*chosen.ids[refused.index], refused.error)
            return None
        except Fenced:
            self._writer.check_owner()  # another runner may have written to a sink once more before it was fenced
            return None
        self._is_stale = False
        self.applied += len(events)
        self._unsaved += len(events)
        return parked

    # -- going on ----------------------------------------------------------------------------------------------------

    @property
    def barrier(self) -> tuple[str, int] | None:
        """Agent and seq of the event that the user's code refused."""
        return self._selection.barrier

    def retry(self) -> None:
        """Try again what stopped the build."""
        self._selection.go_on()
        self.reading.read_all()

    def skip(self, agent: str, seq: int) -> bool:
        """Skip this event; whether it is the one that stopped the build. Otherwise it may still come."""
        if not self._selection.skip(agent, seq):
            return False
        self.retry()
        return True

    # -- erasing -----------------------------------------------------------------------------------------------------

    def erase(self, agents: Sequence[str]) -> bool:
        """Take erased agents out of the view; False: it has to be rebuilt. To be saved then, whatever is due.

        Raises Unavailable, Fenced.
        """
        if not self._storage.can_erase:
            return False
        try:
            if self._is_stale:
                self._load()
            spawned = list(filter(self._has_next_of, agents))
            if spawned:
                if self._storage.kind == "sink":  # nothing rebuilds that, so its user has to see to it
                    get_logger("projection").warning("erase_skipped", consumer=self.record.name, agents=spawned)
                    agents = [agent for agent in agents if agent not in spawned]
                if not agents or self._storage.kind != "sink":
                    return False  # what it has of the next agent of this path would go, too
            self.reading.prefetching.close()
            self.reading.restart(
                {number: _without(mark, agents) for number, mark in self.reading.cursor().marks.items()}
            )
            self._storage.erase(agents)
            self._selection.forget(agents)
        except Unavailable:
            self._is_stale = True
            raise
        except Fenced:
            self._is_stale = True
            self._writer.check_owner()  # as in `_apply`
            raise Unavailable("the tables of a sink were written by another runner, which was fenced since") from None
        except Exception as error:  # the user's own code
            self._is_stale = True
            get_logger("projection").warning("erase_failed", error=type(error).__name__, at=raised_at(error))
            return False
        self._moved = True
        return True

    def _has_next_of(self, agent: str) -> bool:
        """Whether the view may have events of another agent that was spawned under the path of an erased one."""
        partition = self._log.partition_of(agent)
        is_past = self.positions.get(partition, 0) > self._log.erased_until(partition, agent)
        return is_past and self._log.head(agent) is not None

    # -- storing -----------------------------------------------------------------------------------------------------

    def is_due(self, status: str, *, idle: bool) -> bool:
        """Whether to save now. A view that is costly to save is saved less often."""
        since = monotonic() - self._saved_at
        if self._is_stale:
            return False
        if self._unsaved or status != self.record.status:
            pause = self._cost * _SHARE
            return since >= (min(_LONGEST, pause) if idle else pause) or self._storage.full
        return self._moved and since >= _QUIET

    @property
    def dirty(self) -> bool:
        """Whether something was read that is not stored."""
        return bool(self._unsaved) or self._moved

    def save(
        self, status: str, failure: Failure | None = None, done: ConsumerRequest | None = None
    ) -> ConsumerRequest | None:
        """Store view and cursor; returns the operator's request that waits. Raises Parked, Unavailable, Fenced."""
        if self._is_stale:
            return self.save_status(status, failure, done)
        began = monotonic()
        try:
            request = self._save(status, failure, done)
        except Fenced:
            self._writer.check_owner()
            self._is_stale = True
            return None
        except Unavailable:
            raise
        except Exception as error:  # dump and load are the user's own code
            raise parked_by(error) from error
        self._saved_at = monotonic()
        self._cost = self._saved_at - began
        return request

    def _save(self, status: str, failure: Failure | None, done: ConsumerRequest | None) -> ConsumerRequest | None:
        skipped, skips = self.skipped
        saved = self._writer.write(
            lambda record: self._storage.save(self._store, record, done),
            cursor=self.reading.cursor(),
            status=status,
            failure=failure,
            applied=self.applied,
            skipped=skipped,
            skips=skips,
        )
        if saved.current:
            self._unsaved, self._moved = 0, False
            self.saved_positions = self.positions
        else:
            self._is_stale = True
        return saved.request

    def save_status(
        self, status: str, failure: Failure | None, done: ConsumerRequest | None = None
    ) -> ConsumerRequest | None:
        """Store a status with the view that is stored. Raises Unavailable, Fenced."""
        saved = self._writer.write(partial(self._store.save, done=done), status=status, failure=failure)
        self._is_stale = self._is_stale or not saved.current
        return saved.request

    def switch(self) -> None:
        """Become the live view, in one write. All must be saved. Raises Unavailable, Fenced."""
        self._writer.switch()


def _without(mark: Mark, agents: Collection[str]) -> Mark:
    """The mark, without its event if that was of an erased agent."""
    return Mark(mark.position, mark.offset) if mark.agent in agents else mark


class RecordWriter:
    """Writes the record of one view, alone or together with the view. Used by one thread."""

    def __init__(self, store: ConsumerStore, record: ConsumerRecord) -> None:
        self._store = store
        self.record = record
        """As it is in the store, as far as is known here."""

    def write(self, save: Callable[[ConsumerRecord], Saved], **changes: Any) -> Saved:
        """Save a record with changes; `current` is False where the store has an older one: then load the view again.

        Raises Fenced, and what `save` raises.
        """
        while True:
            record = evolve(self.record, updated_at=time_ns() // 1000, **changes)
            saved = save(record)
            if saved.current:
                self.record = evolve(record, revision=saved.revision)
                return saved
            if saved.revision <= self.record.revision:
                # The server lost a save that it had acknowledged. The view that it has is older, but whole.
                self.check_owner()
                return saved
            # A save of ours came through, and only its answer was lost: it holds nothing that is not here.
            self.record = evolve(self.record, revision=saved.revision)

    def check_owner(self) -> None:
        """Go back to the record that is stored. Raises Fenced if the view belongs to another process now."""
        stored = self._store.find(self.record.name)
        found = stored.live if self.record.slot == LIVE else stored.next
        if found is None or found.token != self.record.token:
            raise fenced(self.record.name, found)
        self.record = found

    def switch(self) -> None:
        """Make the view the live one, in one write. Raises Unavailable, Fenced."""
        self.record = self._store.switch(self.record)
