"""The readers of a consumer's partitions: how far each is, and which have something to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duramen.events import Cursor, DuramenError
from duramen.events.codec import Codec
from duramen.events.feed import EventBatch, FeedReader, confirm_marks, fetch_together
from duramen.events.model import START, Mark

from .plan import Plan
from .prefetching import Prefetching


class PartitionReaders:
    """Used by one thread; only `positions` may be read from others."""

    def __init__(self, plan: Plan) -> None:
        self._log = plan.log
        self._filter = plan.event_filter
        self._partitions = plan.partitions
        self._codec = Codec(plan.limits)
        self._ends: Sequence[int] = ()
        """Of the feeds, as they were last read."""
        self.prefetching = Prefetching(plan.log, plan.event_filter)
        self.readers: dict[int, FeedReader] = {}
        self.todo = set(self._partitions)
        """Partitions that may have something to read."""
        self.positions: Mapping[int, int] = {}
        """By partition, the appends that are done with."""
        self._confirmed: set[int] = set()
        """Partitions whose mark was compared with the log since `begin_round`."""

    def restart(self, marks: Mapping[int, Mark]) -> None:
        """Read all partitions from these marks on."""
        self.release()
        self.readers = {}
        for partition in self._partitions:
            self.move(partition, marks.get(partition, START))
        self.read_all()
        self.note_positions()

    def move(self, partition: int, mark: Mark) -> None:
        """Read a partition from this mark on, with a new reader."""
        level, wants = self._filter.level, self._filter.agent_matcher()
        self.readers[partition] = FeedReader(self._log, self._codec, partition, mark, level=level, wants=wants)

    def cursor(self, partition: int = -1, mark: Mark | None = None) -> Cursor:
        """The cursor of the readers, with another mark for one partition."""
        marks = {number: reader.mark for number, reader in self.readers.items()}
        if mark is not None:
            marks[partition] = mark
        return Cursor(self._log.identity, {number: mark for number, mark in sorted(marks.items()) if mark != START})

    def note_positions(self) -> None:
        # A new mapping each time: other threads read it.
        self.positions = {number: reader.mark.position for number, reader in self.readers.items()}

    def fetch(self, partitions: Sequence[int]) -> None:
        """Fetch the next pages of these partitions together, unless another process reads ahead."""
        if not self.prefetching.running:
            fetch_together(self._log, [self.readers[partition] for partition in partitions])

    def read(self, partition: int, most: int, *, ahead: bool) -> EventBatch | None:
        """The next events of a partition, as `FeedReader.read_batch`."""
        reader = self.readers[partition]
        is_fresh = reader.is_idle
        batch = reader.read_batch(most, ahead=ahead)
        if is_fresh and batch is not None:  # its window was loaded together with the event of the mark
            self._confirmed.add(partition)
        return batch

    def begin_round(self) -> None:
        """Take no mark for confirmed any more."""
        self._confirmed.clear()

    def find_replaced(self) -> DuramenError | None:
        """Compare with the log the marks that were not since `begin_round`; returns DataLoss, Diverged, or None."""
        marks = {number: reader.mark for number, reader in self.readers.items() if number not in self._confirmed}
        wrong = confirm_marks(self._log, marks)
        self._confirmed.update(marks)
        return next(iter(wrong.values()), None)

    def start_prefetching(self) -> None:
        """Start a process that reads ahead, if that is worth it."""
        self.prefetching.start_if_behind(self._ends, self.readers)

    def release(self, *, hold: int | None = None) -> None:
        """Drop pages that were fetched and not used, except those of the partition that is to be read on."""
        for partition, reader in self.readers.items():
            if partition != hold:
                reader.release()

    def close(self) -> None:
        """Drop all pages, and end the process that reads ahead, if there is one."""
        self.release()
        self.prefetching.close()

    # -- what there is to read -----------------------------------------------------------------------------------------

    def read_all(self) -> None:
        """Read every partition, whatever is known of it."""
        self.todo = set(self._partitions)

    def note_ends(self, ends: Sequence[int]) -> None:
        """Note where the feeds end, so that events without a notice are read, too."""
        self._ends = ends
        self.todo.update(one for one in self._partitions if ends[one] != self.positions.get(one, 0))

    def note(self, moved: Mapping[int, int]) -> None:
        """Note which partitions may have moved, and how far; 0 for unknown."""
        for partition, position in moved.items():
            if partition in self.readers and (position == 0 or position > self.positions.get(partition, 0)):
                self.todo.add(partition)

    def is_behind(self, ends: Sequence[int]) -> bool:
        """Whether a partition has not been read up to there."""
        return any(ends[partition] > self.positions.get(partition, 0) for partition in self._partitions)

    def is_behind_view(self, positions: Mapping[int, int]) -> bool:
        """Whether another view has come further in a partition."""
        return any(position > self.positions.get(partition, 0) for partition, position in positions.items())
