"""The partitions that a hub reads for its subscriptions: how far it is, and where there is more.

A notice says where to read. Its events are taken only where they prove to be the very next ones; earlier ones are
ignored, and anything else is read from the log. So notices that are lost, late or repeated change nothing. What was
taken from notices is compared with the log at each heartbeat, which finds a notice that was forged with knowledge of
what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from duramen.events import CorruptEvent, DuramenError, Unavailable
from duramen.events.codec import Codec
from duramen.events.feed import FeedReader, LastDigests, confirm_marks, confirm_with_log, fetch_together
from duramen.events.log import Notice
from duramen.events.logging import get_logger
from duramen.events.model import START, Mark

from .change import ChangeBuilder, Source
from .distributor import Distributor, FollowedPartition
from .erasures import place_of
from .intake import PAGE, Intake

_RETRY: Final = 0.25
_MOST_UNCONFIRMED: Final = 4_000
"""Entries of a feed that are taken from notices before they are compared with it."""


class FollowedPartitions:
    """Not thread-safe; only `mark_of` and `end_of` may be called from other threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._codec = Codec(source.limits)
        self._log = get_logger("subscriptions")
        self._distributor = Distributor(ChangeBuilder(source, values=False))
        self.intakes: set[Intake] = set()
        self.level = 0
        """The highest level that an intake wants."""
        self.followed: frozenset[int] = frozenset()
        """Partitions whose channels are listened to: an intake relies on the hub there, or did at the last beat."""
        self.false = 0
        """Notices that proved false."""
        self._parts: dict[int, FollowedPartition] = {}
        self._moved: dict[int, int] = {}
        """Partitions with something to read, and how far; 0 for unknown."""
        self._ends: list[int] = [0] * source.log.partitions
        self._retry_at = 0.0

    def mark_of(self, partition: int) -> Mark:
        """How far the hub has handed out a partition."""
        part = self._parts.get(partition)
        return START if part is None else part.mark

    def end_of(self, partition: int) -> int:
        """Where the feed ended at the last heartbeat, or further on if the hub is."""
        return max(self._ends[partition], self.mark_of(partition).position)

    @property
    def read_at(self) -> float | None:
        """The time of `monotonic` from which on there is something to read; None: there is nothing."""
        return self._retry_at if self._moved else None

    # -- intakes -----------------------------------------------------------------------------------------------------

    def add(self, intake: Intake) -> None:
        """Know one more intake, which joins partitions later."""
        self.intakes.add(intake)
        self.level = max(self.level, intake.event_filter.level)
        self._renew_readers()

    def remove(self, intake: Intake) -> None:
        """Read nothing for an intake any more."""
        if intake not in self.intakes:
            return
        self.intakes.discard(intake)
        self._distributor.remove(intake)
        self.level = max((known.event_filter.level for known in self.intakes), default=0)
        self._leave()

    def join(self, intake: Intake, partition: int) -> None:
        """Read a partition for an intake from now on, if it is as far as the hub."""
        if intake not in self.intakes:
            return
        if self._distributor.add(intake):
            self._renew_readers()
        part = self._parts.get(partition)
        if part is None:
            mark = intake.mark_of(partition)
            known = LastDigests()
            part = self._parts[partition] = FollowedPartition(self._reader(partition, mark, known), mark, known)
            self._moved[partition] = 0
        elif not self._distributor.is_followed(partition):
            self._moved.setdefault(partition, 0)  # it was not read meanwhile
        if intake.erasures_of(partition) != part.erasures:
            part.erasures = -1  # it may not have been told of the latest
        intake.admit(partition, part.mark)
        if partition not in self.followed and intake.is_following(partition):
            self.followed |= {partition}

    def _renew_readers(self) -> None:
        """Read on with new readers: the others have read ahead, without the events that only a new intake wants."""
        for partition, part in self._parts.items():
            self._renew_reader(partition, part)
            self._moved.setdefault(partition, part.mark.position)

    def _renew_reader(self, partition: int, part: FollowedPartition) -> None:
        part.reader = self._reader(partition, part.mark, part.known)

    def _reader(self, partition: int, mark: Mark, known: LastDigests) -> FeedReader:
        log, wants = self._source.log, self._distributor.wants
        return FeedReader(log, self._codec, partition, mark, level=self.level, wants=wants, known=known)

    def _leave(self) -> None:
        """Leave the partitions whose intakes are all catching up: their notices would be discarded.

        Those intakes read by themselves. The first that joins brings the partition back, and it is read.
        """
        self.followed = self._distributor.followed(self.followed)
        for partition in self._parts.keys() - self.followed:
            self._forget(partition)

    def _forget(self, partition: int) -> None:
        self._moved.pop(partition, None)
        if partition in self._parts and not self._parts[partition].unconfirmed.count:
            del self._parts[partition]  # with unconfirmed events it stays until they are compared with the log

    # -- notices -----------------------------------------------------------------------------------------------------

    def note(self, moved: Mapping[int, int]) -> None:
        """Note which partitions may have moved, and how far; 0 for unknown."""
        for partition, position in moved.items():
            part = self._parts.get(partition)
            if part is None:
                continue
            if position == 0:
                self._restart(partition, part)
            elif position > part.mark.position:
                known = self._moved.get(partition, position)
                self._moved[partition] = max(known, position) if known else 0

    def accept(self, notices: Sequence[Notice]) -> None:
        """Hand out the events of a batch if they are the next ones. Otherwise the partition is read from the log."""
        partition, position = notices[0].partition, notices[0].position
        part = self._parts.get(partition)
        if part is None or position <= part.mark.position or not self._distributor.is_followed(partition):
            return
        try:
            events = part.reader.accept_notices(notices, part.unconfirmed)
        except CorruptEvent:
            self.false += 1
            return
        if events is None:
            return
        try:
            self._distributor.hand_out(partition, part, events, receivers=part.receivers)
        except DuramenError as error:
            self._handle_unreadable(partition, part, error)
        if part.unconfirmed.count > _MOST_UNCONFIRMED:
            self._confirm({partition: part})

    def beat(self) -> bool:
        """See where all feeds end, and whether they have what came from notices. False if the log cannot be asked."""
        try:
            self._ends = self._source.log.positions()
            quiet = {number: part for number, part in self._parts.items() if not part.unconfirmed.count}
            replaced = confirm_marks(self._source.log, {number: part.mark for number, part in quiet.items()})
            counts = self._source.log.erasures(list(self._parts))
            for (partition, part), count in zip(self._parts.items(), counts, strict=True):
                if self._tell_erased(partition, part, count):
                    self._restart(partition, part)
        except DuramenError as error:
            self._log.debug("heartbeat_failed", error=type(error).__name__)
            return False
        for partition, part in self._parts.items():
            if self._ends[partition] < part.mark.position:
                self._restart(partition, part)
        for partition, reason in replaced.items():
            self._give_up(partition, quiet[partition], reason)
        self._confirm({partition: part for partition, part in self._parts.items() if part.unconfirmed.count})
        self._distributor.remove_idle()
        self._leave()
        return True

    def note_unnoticed(self) -> None:
        """Read events without a notice: all notices from before the heartbeat have arrived, theirs has not."""
        self.note({number: self._ends[number] for number in self._parts if self._ends[number]})

    def _confirm(self, parts: Mapping[int, FollowedPartition]) -> bool:
        """Compare events taken from notices with the log. Returns False if the log cannot be asked now.

        Intakes that received other events end with what is wrong.
        """
        try:
            wrong = confirm_with_log(self._source.log, {number: part.unconfirmed for number, part in parts.items()})
        except Unavailable as error:
            self._log.debug("comparison_failed", error=type(error).__name__)
            return False
        for partition, reason in wrong.items():
            part = parts[partition]
            self.false += 1
            for intake in self.intakes:
                if intake in part.receivers or (partition in intake.partitions and intake.is_live(partition)):
                    intake.refuse(partition, part.mark, reason)
            self._give_up(partition, part, reason)
        for part in parts.values():
            part.receivers.clear()
        return True

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_moved(self) -> None:
        """Read one page of each partition that has moved."""
        if monotonic() < self._retry_at:
            return
        for partition in [moved for moved in self._moved if not self._distributor.is_followed(moved)]:
            self._forget(partition)
        try:
            fetch_together(self._source.log, [self._parts[partition].reader for partition in self._moved])
        except Unavailable:
            self._retry_at = monotonic() + _RETRY
            return
        for partition, target in list(self._moved.items()):
            part = self._parts[partition]
            try:
                events = part.reader.read(PAGE)
                erased = self._tell_erased(partition, part, part.reader.erasures)
                if erased:
                    events = [one for one in events if place_of(one.mark) > erased.get(one.agent, -1)]
                self._distributor.hand_out(partition, part, events)
                if erased:
                    self._renew_reader(partition, part)
                self.wake()
            except Unavailable:
                self._renew_reader(partition, part)
                self._retry_at = monotonic() + _RETRY
                return
            except DuramenError as error:
                self._handle_unreadable(partition, part, error)
                continue
            if not events or 0 < target <= part.mark.position:
                self.false += target > part.mark.position  # the notice promised what is not there
                del self._moved[partition]

    def _tell_erased(self, partition: int, part: FollowedPartition, erasures: int) -> dict[str, int]:
        """Tell the intakes of agents that were erased since the last look, if any were; returns these.

        It comes before the events of those spawned anew, and what was read of the erased ones is dropped. Raises what
        asking the log raises.
        """
        if erasures == part.erasures:
            return {}
        erased = self._distributor.tell_erased(partition, self._source.log)
        part.erasures = erasures
        for agent in erased:
            part.known.forget(agent)  # so that a notice of before is not taken for news
        return erased

    def wake(self) -> None:
        """Wake the intakes that have received something, or have something to read."""
        self._distributor.wake()

    def _restart(self, partition: int, part: FollowedPartition) -> None:
        """Read on with a new reader, which first checks that the log is still the one that was read."""
        self._renew_reader(partition, part)
        self._moved[partition] = 0

    def _handle_unreadable(self, partition: int, part: FollowedPartition, error: DuramenError) -> None:
        """Give a partition up, unless false notices may have led to the error: then read it again."""
        if part.unconfirmed.count and not self._confirm({partition: part}):
            self._restart(partition, part)
            self._retry_at = monotonic() + _RETRY
        elif self._parts.get(partition) is part:
            self._give_up(partition, part, error)

    def _give_up(self, partition: int, part: FollowedPartition, error: DuramenError) -> None:
        """Let each intake read by itself: those that are concerned find the same error, the others come back."""
        self._log.warning("partition_not_readable", partition=partition, error=type(error).__name__)
        del self._parts[partition]
        self._moved.pop(partition, None)
        for intake in self.intakes:
            if partition in intake.partitions:
                intake.fall_behind(partition, part.mark)
