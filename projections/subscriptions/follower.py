"""The thread that reads what is new, once for all subscriptions of a system, and hands it out.

A notice says where to look. Its events are taken only where they prove to be the very next ones; past ones are ignored,
and anything else is read from the log. So notices that are lost, late or repeated change nothing. Once a second the
ends of all feeds are looked at, which finds what no notice told of, and all that was taken from notices is compared
with the log, which finds one that somebody has made up though he knew what comes next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from duramen.events import CorruptEvent, DuramenError, Unavailable
from duramen.events.codec import Codec
from duramen.events.feed import FeedEvent, FeedReader, LastDigests, confirm_with_log, fetch_together
from duramen.events.log import Notice
from duramen.events.logging import get_logger, raised_at
from duramen.events.model import START, Mark

from ..notifications import Channels, TimerQueue
from .change import Change
from .change_builder import ChangeBuilder, Source
from .intake import PAGE, Intake
from .members import Members, PartitionMembers

__all__ = ["Follower"]

_RETRY: Final = 0.25
_LOOK: Final = 0.2
"""Seconds between two looks while there is too much to listen to."""
_MOST_HEARD: Final = 4_000
"""Entries of a feed that are taken from notices before they are compared with it."""


class Follower:
    """Follows partitions where intakes rely on it. `add`, `remove` and what `Feeder` has may come from any thread."""

    def __init__(self, source: Source, read: Callable[[Callable[[], None]], None], heartbeat: float) -> None:
        self._source = source
        self._submit = read
        self._heartbeat = heartbeat
        self._codec = Codec(source.limits)
        self._teller = ChangeBuilder(source, values=False)
        self._channels = Channels(source.log.notices(events=True))
        self._requests: deque[Callable[[], None]] = deque()
        self._alarms = TimerQueue()
        self._closing = False
        self._log = get_logger("subscriptions")
        # Of the thread alone, but that others look up places:
        self._intakes: set[Intake] = set()
        self._served = Members()
        self._parts: dict[int, PartitionMembers] = {}
        self._level = 0
        self._followed: frozenset[int] = frozenset()
        """Partitions whose channels are listened to: where somebody gets what is heard, or did when it was looked."""
        self._moved: dict[int, int] = {}
        self._ends: list[int] = [0] * source.log.partitions
        self._look_at = 0.0
        self._retry_at = 0.0
        self._false = 0
        self._woken: set[Intake] = set()
        self._stirred: set[int] = set()
        self._thread = threading.Thread(target=self._main, name="duramen-hub", daemon=True)

    @property
    def strange(self) -> int:
        """Messages on the channels that nobody could have meant."""
        return self._channels.strange + self._false

    def start(self) -> None:
        self._thread.start()

    def add(self, intake: Intake) -> None:
        """Follow for one more."""
        self._request(lambda: self._add(intake))

    def remove(self, intake: Intake) -> None:
        """Follow for one less."""
        self._request(lambda: self._remove(intake))

    def stop(self) -> None:
        """Let the thread end."""
        self._closing = True
        self._channels.wake()

    def wait(self, timeout: float) -> bool:
        """Whether the thread has ended, at the latest after `timeout` seconds."""
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- Guide ---------------------------------------------------------------------------------------------------------

    def mark_of(self, partition: int) -> Mark:
        part = self._parts.get(partition)
        return START if part is None else part.mark

    def end_of(self, partition: int) -> int:
        return max(self._ends[partition], self.mark_of(partition).position)

    def join(self, intake: Intake, partition: int) -> None:
        self._request(lambda: self._join(intake, partition))

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._request(lambda: self._alarms.add(when, call))

    def read(self, work: Callable[[], None]) -> None:
        self._submit(work)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _request(self, work: Callable[[], None]) -> None:
        self._requests.append(work)
        self._channels.wake()

    def _main(self) -> None:
        try:
            while not self._closing:
                self.turn()
        except BaseException as error:  # ours, not the log's: say so to everybody rather than fall silent
            self._log.error("hub_failed", error=type(error).__name__, at=raised_at(error))
            for intake in self._intakes:
                intake.fail(error)
        finally:
            self._channels.close()

    def turn(self, *, wait: bool = True) -> None:
        """Do what is due, read a page of each partition that has moved, then hear where to look next."""
        while self._requests:
            self._requests.popleft()()
        self._alarms.ring()
        self._read_moved()
        looked = self._look_around()
        self._channels.follow(self._followed, self._level)
        hints, told = self._channels.receive(self._pause() if wait and not looked else 0.0)
        for messages in told:
            self._hear(messages)
        self._wake()
        self._note(hints)
        if self._channels.deaf:
            self._look_at = min(self._look_at, monotonic() + _LOOK)
        if looked:
            self._note_missed()

    def _pause(self) -> float:
        if self._requests:
            return 0.0
        until = min(self._look_at, self._alarms.next)
        if self._moved:
            until = min(until, self._retry_at)
        return max(0.0, until - monotonic())

    def _note(self, hints: dict[int, int]) -> None:
        for partition, position in hints.items():
            part = self._parts.get(partition)
            if part is None:
                continue
            if position == 0:
                self._look_again(partition, part)
            elif position > part.mark.position:
                known = self._moved.get(partition, position)
                self._moved[partition] = max(known, position) if known else 0

    def _look_around(self) -> bool:
        """At every heartbeat: see where the feeds end, and whether they have what was heard; whether it was time."""
        now = monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + self._heartbeat
        try:
            self._ends = self._source.log.positions()
        except DuramenError as error:
            self._log.debug("heartbeat_failed", error=type(error).__name__)
            return False
        for partition, part in self._parts.items():
            if self._ends[partition] < part.mark.position:
                self._look_again(partition, part)
        self._compare({partition: part for partition, part in self._parts.items() if part.heard.count})
        self._served.remove_idle()
        self._leave()
        return True

    def _note_missed(self) -> None:
        """What no notice told of, though those of all that was there at the last look have been heard."""
        ends = {partition: self._ends[partition] for partition in self._parts}
        self._note({partition: end for partition, end in ends.items() if end > self._parts[partition].mark.position})

    def _compare(self, parts: dict[int, PartitionMembers]) -> bool:
        """Look whether the log has what was taken from notices; False: not now. Who was given other things ends."""
        try:
            wrong = confirm_with_log(self._source.log, {partition: part.heard for partition, part in parts.items()})
        except Unavailable as error:
            self._log.debug("comparison_failed", error=type(error).__name__)
            return False
        for partition, reason in wrong.items():
            part = parts[partition]
            self._false += 1
            for intake in self._intakes:
                if intake in part.hearers or (partition in intake.partitions and intake.takes(partition)):
                    intake.refuse(partition, part.mark, reason)
            self._give_up(partition, part, reason)
        for part in parts.values():
            part.hearers.clear()
        return True

    def _look_again(self, partition: int, part: PartitionMembers) -> None:
        """Read on with a new reader, which first looks whether the log is still the one that was read."""
        part.reader = self._reader(partition, part)
        self._moved[partition] = 0

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read_moved(self) -> None:
        """One page of each partition that has moved."""
        if monotonic() < self._retry_at:
            return
        for partition in [moved for moved in self._moved if not self._served.is_followed(moved)]:
            self._forget(partition)
        try:
            fetch_together(self._source.log, [self._parts[partition].reader for partition in self._moved])
        except Unavailable:
            self._retry_at = monotonic() + _RETRY
            return
        for partition, target in list(self._moved.items()):
            part = self._parts[partition]
            try:
                facts = part.reader.read(PAGE)
                self._hand_out(partition, part, facts)
                self._wake()
            except Unavailable:
                part.reader = self._reader(partition, part)
                self._retry_at = monotonic() + _RETRY
                return
            except DuramenError as error:
                self._cannot_read(partition, part, error)
                continue
            if not facts or 0 < target <= part.mark.position:
                self._false += target > part.mark.position  # it told of what is not there
                del self._moved[partition]

    def _hear(self, messages: Sequence[Notice]) -> None:
        """Take the events of a batch, if they are the next. Where they are not, its hint leads to the log."""
        partition, position = messages[0].partition, messages[0].position
        part = self._parts.get(partition)
        if part is None or position <= part.mark.position or not self._served.is_followed(partition):
            return
        try:
            facts = part.reader.hear(messages, part.heard)
        except CorruptEvent:
            self._false += 1
            return
        if facts is None:
            return
        try:
            self._hand_out(partition, part, facts, part.hearers)
        except DuramenError as error:
            self._cannot_read(partition, part, error)
        if part.heard.count > _MOST_HEARD:
            self._compare({partition: part})

    def _hand_out(
        self, partition: int, part: PartitionMembers, facts: Sequence[FeedEvent], hearers: set[Intake] | None = None
    ) -> None:
        before: FeedEvent | None = None
        behind = part.reader.mark
        try:
            for fact in facts:
                found = self._served.of(fact.agent, fact.seq, fact.raw)
                if found:
                    since = part.mark if before is None else before.mark
                    self._offer(partition, since, fact, found, hearers)
                before = fact
        except DuramenError:
            behind = part.mark if before is None else before.mark
            raise
        finally:
            if part.mark != behind:
                part.mark = behind
                self._stirred.add(partition)

    def _wake(self) -> None:
        """Tell those who have got something, once for a burst: who is woken needs the time of this thread."""
        while self._woken:
            self._woken.pop().wake()
        for intake in self._served.watching if self._stirred else ():
            for partition in intake.partitions & self._stirred:
                intake.moved(partition)
        self._stirred.clear()

    def _offer(
        self, partition: int, since: Mark, fact: FeedEvent, found: dict[Intake, list[str]], hearers: set[Intake] | None
    ) -> None:
        changes: dict[tuple[str, ...], Change] = {}
        mark = fact.mark
        for intake, paths in found.items():
            if not intake.takes(partition):
                continue
            if hearers is not None:
                hearers.add(intake)
            key = tuple(paths)
            try:
                change = changes.get(key)
                if change is None:
                    told = self._teller.tell(fact, key)
                    assert told is not None
                    change = changes[key] = told
            except DuramenError:
                intake.fall_behind(partition, since)  # reads it in the log, and finds the same, or better
                continue
            if intake.offer(partition, since, mark, change):
                self._woken.add(intake)

    def _cannot_read(self, partition: int, part: PartitionMembers, error: DuramenError) -> None:
        """If notices have led astray, it is not the log that is at fault."""
        if part.heard.count and not self._compare({partition: part}):
            part.reader = self._reader(partition, part)
            self._moved[partition] = 0
            self._retry_at = monotonic() + _RETRY
        elif self._parts.get(partition) is part:
            self._give_up(partition, part, error)

    def _give_up(self, partition: int, part: PartitionMembers, error: DuramenError) -> None:
        """Let each read by itself: who is concerned finds the same error, and the others come back."""
        self._log.warning("partition_not_readable", partition=partition, error=type(error).__name__)
        del self._parts[partition]
        self._moved.pop(partition, None)
        for intake in self._intakes:
            if partition in intake.partitions:
                intake.fall_behind(partition, part.mark)

    def _reader(self, partition: int, part: PartitionMembers) -> FeedReader:
        return self._reader_at(partition, part.mark, part.known)

    def _reader_at(self, partition: int, mark: Mark, known: LastDigests) -> FeedReader:
        log, wants = self._source.log, self._served.wants
        return FeedReader(log, self._codec, partition, mark, level=self._level, wants=wants, known=known)

    # -- who is followed for -------------------------------------------------------------------------------------------

    def _add(self, intake: Intake) -> None:
        self._intakes.add(intake)
        self._level = max(self._level, intake.interest.level)
        self._read_anew()
        intake.begin(self)

    def _read_anew(self) -> None:
        """Go on with new readers: the others have read ahead, without the events that only a new one wants."""
        for partition, part in self._parts.items():
            part.reader = self._reader(partition, part)
            self._moved.setdefault(partition, part.mark.position)

    def _remove(self, intake: Intake) -> None:
        if intake not in self._intakes:
            return
        self._intakes.discard(intake)
        self._served.remove(intake)
        self._level = max((known.interest.level for known in self._intakes), default=0)
        self._leave()

    def _leave(self) -> None:
        """Leave the partitions where all are behind: who sleeps there would hear all that is written, for nothing.

        They read by themselves, if at all. The first that joins brings the partition back, and is told to look there.
        """
        self._followed = self._served.followed(self._followed)
        for partition in self._parts.keys() - self._followed:
            self._forget(partition)

    def _forget(self, partition: int) -> None:
        """Read it no more: who is behind reads for itself, and brings it back."""
        self._moved.pop(partition, None)
        if partition in self._parts and not self._parts[partition].heard.count:
            del self._parts[partition]  # else what was heard is still to be compared with the log, for who was given it

    def _join(self, intake: Intake, partition: int) -> None:
        if intake not in self._intakes:
            return
        if self._served.add(intake):
            self._read_anew()
        part = self._parts.get(partition)
        if part is None:
            mark = intake.mark_of(partition)
            known = LastDigests()
            part = self._parts[partition] = PartitionMembers(self._reader_at(partition, mark, known), mark, known)
            self._moved[partition] = 0
        elif not self._served.is_followed(partition):
            self._moved.setdefault(partition, 0)  # it was not read meanwhile
        intake.admit(partition, part.mark)
        if partition not in self._followed and intake.follows(partition):
            self._followed |= {partition}
