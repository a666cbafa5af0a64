"""One view of a consumer being kept up with the log: read, fold, and store view and cursor in one write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic, time_ns
from typing import Any, Final

from attrs import evolve

from duramen.events import Cursor, DataLoss, DuramenError, EventRegistry, Fenced, Limits, Unavailable
from duramen.events.codec import Codec
from duramen.events.feed import EventBatch, FeedReader, fetch_together
from duramen.events.log import LIVE, ConsumerRecord, ConsumerRequest, ConsumerStore, EventLog, Failure, fenced
from duramen.events.model import START, Mark

from ..notifications import Scope
from .prefetching import Prefetching
from .selection import EventSelection, Parked, halt
from .view_storage import Refused, ViewStorage

__all__ = ["Parked", "ViewBuilder"]

_TURN: Final = 0.4
"""Seconds for the partitions that have their turn; then the consumer looks at what else there is to do."""
_FAR: Final = 1_000
"""Appends of a partition that is far behind."""
_SHARE: Final = 19
"""Between saves pass at least so many times what the last one took: one part in twenty goes into saving."""
_LONGEST: Final = 2.0
"""Seconds after which an idle view is stored, however long that takes."""
_QUIET: Final = 1.0
"""Seconds between saves where only events that are not wanted have passed by."""


class ViewBuilder:
    """Used by one thread, but for `view`, `positions` and `saved_positions`.

    loading ──▶ reading ◀──▶ at the end
       ▲           │ Refused: what the fold holds is not to be used
       └───────────┤ loaded anew, read up to the event that was refused
                   ▼
                 Halted ── retry, skip ──▶ reading
    """

    def __init__(
        self,
        log: EventLog,
        views: ConsumerStore,
        kept: ViewStorage,
        scope: Scope,
        record: ConsumerRecord,
        *,
        registry: EventRegistry,
        limits: Limits,
    ) -> None:
        self._log = log
        self._views = views
        self._kept = kept
        self._scope = scope
        self._sieve = EventSelection(scope, registry, record)
        self.prefetching = Prefetching(log, scope)
        self._codec = Codec(limits)
        self.record = record
        """As it is in the store, as far as is known here."""
        self._applied = record.applied
        self._ends: Sequence[int] = ()
        """Of the feeds, as they were last looked at."""
        self._readers: dict[int, FeedReader] = {}
        self._turn = 0
        """The partition that comes first at the next step, or the next one behind it that has something."""
        self._held = -1
        """The partition of which something is in hand from the step before: where its feed ends may have changed."""
        self._lost = True
        """Whether the fold has to be loaded before it can be used."""
        self._taken = 0
        self._moved = False
        self._saved_at = 0.0
        self._cost = 0.0
        self.todo = set(scope.partitions)
        """Partitions that may have something to read."""
        self.positions: Mapping[int, int] = {}
        """By partition, the appends that are done with."""
        self.saved_positions: Mapping[int, int] = {}

    @property
    def view(self) -> Any:
        """What users see."""
        return self._kept.view

    @property
    def applied(self) -> int:
        """Events handed to the fold since the view was begun."""
        return self._applied

    @property
    def skipped(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How many events were left out, and the latest of them."""
        return self._sieve.skipped

    # -- reading -----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take what the partitions have: by turns all of it, for a while, and then a page of those that have little.

        Tells whether there is more. Raises Halted, Unavailable, Fenced. After Unavailable the next call goes on where
        this one has come to.
        """
        try:
            self._step()
        except BaseException as error:
            self.rest()
            if isinstance(error, Parked):
                self.prefetching.close()
            raise
        return bool(self.todo)

    def _step(self) -> None:
        if self._lost:
            self._load()
        until = monotonic() + _TURN
        if self.barrier is None:
            self.prefetching.look(self._ends, self._readers)
        moved = self._hand_out(until)
        partitions = sorted(self.todo, key=lambda each: (each < self._turn, each))
        if not self.prefetching.running:
            fetch_together(self._log, [self._readers[partition] for partition in partitions])
        for partition in partitions:
            has_turn = not moved or monotonic() < until
            moved = True
            if self._lost or self.prefetching.holds(partition):
                continue
            if not has_turn and self._readers[partition].lag > _FAR:
                continue  # to take a little of much, time and again, costs more than it is worth
            self._read(partition, until)
            if self._lost:
                self._turn = partition  # again: two that are refused are not to take turns
            elif has_turn:  # what was fetched is used first: to fetch it again costs more than it is worth
                self._turn = partition + self._readers[partition].between
        self._hand_out(until, wait=True)
        self._held = self._turn
        self.rest(hold=self._held)

    def rest(self, *, hold: int | None = None) -> None:
        """Let go of what was fetched and not used, but of the partition that is to be read on."""
        for partition, reader in self._readers.items():
            if partition != hold:
                reader.rest()

    def _read(self, partition: int, until: float) -> None:
        """Take what a partition has: a window after the other, until it is time; a page at least."""
        late = wanted = False
        while not (late or wanted or self._lost) and partition in self.todo:
            self._page(partition, ahead=monotonic() < until)
            self._hand_out(until, apart=partition)
            late, wanted = monotonic() >= until, self.prefetching.wants(partition)
        if wanted:
            self._readers[partition].rest()

    def _hand_out(self, until: float, *, apart: int | None = None, wait: bool = False) -> bool:
        """Take what another process has read, if there is one; with `wait` until then. Whether there was something.

        Partition `apart` is read here, and not by it.
        """
        some = False
        while not self._lost and monotonic() < until:
            partition = self.prefetching.next(self._readers, apart, until if wait else 0.0)
            if partition is None:
                break
            self._page(partition, ahead=False)
            some = True
        return some

    def look(self, ends: Sequence[int]) -> None:
        """Note where the feeds end, so that what was never heard of is read, too."""
        self._ends = ends
        for partition in self._scope.partitions:
            if ends[partition] != self.positions.get(partition, 0):
                self.todo.add(partition)

    def hint(self, moved: Mapping[int, int]) -> None:
        """Note what was heard of: a position, or 0 for unknown."""
        for partition, position in moved.items():
            if partition in self._readers and (position == 0 or position > self.positions.get(partition, 0)):
                self.todo.add(partition)

    def behind(self, ends: Sequence[int]) -> bool:
        """Whether a partition has not been read up to there."""
        return any(ends[partition] > self.positions.get(partition, 0) for partition in self._scope.partitions)

    def behind_of(self, positions: Mapping[int, int]) -> bool:
        """Whether another view has come further anywhere."""
        return any(position > self.positions.get(partition, 0) for partition, position in positions.items())

    def close(self) -> None:
        """Let go of all that was fetched, and end the process that reads ahead, if there is one."""
        self.rest()
        self.prefetching.close()

    def _load(self) -> None:
        self.prefetching.close()
        try:
            cursor = self._kept.load(self._views, self.record)
        except (Unavailable, Fenced):
            raise
        except Exception as error:  # load is the user's own code
            raise halt(error) from error
        identity = self._log.identity
        if cursor.log != identity:
            raise halt(
                DataLoss(
                    "the consumer has read another log than this one: it was lost, or replaced; rebuild the view",
                    expected=cursor.log,
                    actual=identity,
                )
            )
        marks = cursor.marks
        self.rest()
        self._readers = {number: self._reader(number, marks.get(number, START)) for number in self._scope.partitions}
        self.todo = set(self._scope.partitions)
        self._applied = self.record.applied
        self._sieve.reload(self.record)
        self._taken, self._moved = 0, False
        self._note_positions()
        self.saved_positions = self.positions
        self._lost = False

    def _reader(self, partition: int, mark: Mark) -> FeedReader:
        scope = self._scope
        return FeedReader(self._log, self._codec, partition, mark, level=scope.level, wants=scope.wants())

    def _page(self, partition: int, *, ahead: bool) -> None:
        reader = self._readers[partition]
        before = reader.mark
        try:
            facts = reader.take(self._kept.page, ahead=ahead)
        except Unavailable:
            raise
        except DuramenError as error:
            raise halt(error, error.agent, error.seq) from error
        halted = None if facts is None else self._take(partition, facts)
        if self._lost:
            return
        if facts is not None and halted is not None:
            stop = self._sieve.before_barrier(facts)
            self._readers[partition] = self._reader(partition, facts.mark(stop - 1) if stop else before)
        elif (facts is None or (reader.lag == 0 and partition != self._held)) and not self.prefetching.holds(partition):
            self.todo.discard(partition)
        self._moved = self._moved or self._readers[partition].mark != before
        self._note_positions()
        if halted is not None:
            raise halted

    def _take(self, partition: int, facts: EventBatch) -> Parked | None:
        """Fold what is wanted of these; what stops the build at the one behind. The fold may be lost then."""
        chosen, events, halted = self._sieve.events(facts)
        self._lost = True  # unless all goes well, the reader is ahead of the fold
        try:
            self._kept.take(events, lambda index: self._cursor(partition, chosen.mark(index) if index >= 0 else None))
        except Refused as refused:
            # The fold may hold half of that event. It is made anew, and then read up to there.
            self._sieve.stop_at(*chosen.places[refused.index], refused.error)
            return None
        except Fenced:
            self._check_owner()
            return None
        self._lost = False
        self._applied += len(events)
        self._taken += len(events)
        return halted

    def _cursor(self, partition: int = -1, behind: Mark | None = None) -> Cursor:
        """Where the readers are; of one partition, that mark."""
        marks = {number: reader.mark for number, reader in self._readers.items()}
        if behind is not None:
            marks[partition] = behind
        return Cursor(self._log.identity, {number: mark for number, mark in sorted(marks.items()) if mark != START})

    def _note_positions(self) -> None:
        # A new mapping each time: other threads look at it.
        self.positions = {number: reader.mark.position for number, reader in self._readers.items()}

    # -- going on ----------------------------------------------------------------------------------------------------

    @property
    def barrier(self) -> tuple[str, int] | None:
        """Agent and seq of the event that the user's code refused."""
        return self._sieve.barrier

    def retry(self) -> None:
        """Try again what stopped the build."""
        self._sieve.go_on()
        self.todo = set(self._scope.partitions)

    def skip(self, agent: str, seq: int) -> bool:
        """Leave out this event; whether it is the one that stopped the build. Otherwise it may still come."""
        if not self._sieve.leave_out(agent, seq):
            return False
        self.retry()
        return True

    # -- storing -----------------------------------------------------------------------------------------------------

    def due(self, status: str, *, idle: bool) -> bool:
        """Whether to save now. What is costly to save is saved less often."""
        since = monotonic() - self._saved_at
        if self._lost:
            return False
        if self._taken or status != self.record.status:
            pause = self._cost * _SHARE
            return since >= (min(_LONGEST, pause) if idle else pause) or self._kept.full
        return self._moved and since >= _QUIET

    @property
    def dirty(self) -> bool:
        """Whether something was read that is not stored."""
        return bool(self._taken) or self._moved

    def save(
        self, status: str, failure: Failure | None = None, done: ConsumerRequest | None = None
    ) -> ConsumerRequest | None:
        """Store view and cursor; a wish that waits. Raises Halted, Unavailable, Fenced."""
        if self._lost:
            return self.note(status, failure, done)
        began = monotonic()
        try:
            wish = self._save(status, failure, done)
        except Fenced:
            self._check_owner()
            return None
        except Unavailable:
            raise
        except Exception as error:  # dump and load are the user's own code
            raise halt(error) from error
        self._saved_at = monotonic()
        self._cost = self._saved_at - began
        return wish

    def _save(self, status: str, failure: Failure | None, done: ConsumerRequest | None) -> ConsumerRequest | None:
        while True:
            skipped, skips = self._sieve.skipped
            record = evolve(
                self.record,
                cursor=self._cursor(),
                status=status,
                failure=failure,
                applied=self._applied,
                skipped=skipped,
                skips=skips,
                updated_at=time_ns() // 1000,
            )
            saved = self._kept.save(self._views, record, done)
            if saved.current:
                self.record = evolve(record, revision=saved.revision)
                self._taken, self._moved = 0, False
                self.saved_positions = self.positions
                return saved.wish
            if not self._agree(saved.revision):
                return saved.wish

    def note(self, status: str, failure: Failure | None, done: ConsumerRequest | None = None) -> ConsumerRequest | None:
        """Store a status beside the view that is stored. Raises Unavailable, Fenced."""
        while True:
            record = evolve(self.record, status=status, failure=failure, updated_at=time_ns() // 1000)
            saved = self._views.save(record, done=done)
            if saved.current:
                self.record = evolve(record, revision=saved.revision)
                return saved.wish
            if not self._agree(saved.revision):
                return saved.wish

    def _agree(self, revision: int) -> bool:
        """The store is at another revision than was thought: whether what is here may be written over it."""
        if revision > self.record.revision:
            # A save of our own came through, and only its answer was lost. It holds nothing that is not here.
            self.record = evolve(self.record, revision=revision)
            return True
        # The server lost a save that it had acknowledged. What it has is older, but whole: go on from there.
        self._check_owner()
        return False

    def _check_owner(self) -> None:
        """Raise Fenced if the view belongs to another now; otherwise go on from what is stored.

        Whoever was fenced may have written to a sink once more before it noticed.
        """
        stored = self._views.look(self.record.name)
        found = stored.live if self.record.slot == LIVE else stored.next
        if found is None or found.token != self.record.token:
            raise fenced(self.record.name, found)
        self.record, self._lost = found, True

    def switch(self) -> None:
        """Become the live view, in one write. All must be saved. Raises Unavailable, Fenced."""
        self.record = self._views.switch(self.record)
