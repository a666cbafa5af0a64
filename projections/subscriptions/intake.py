"""Where one subscription stands in each partition, and how events come in: from the hub, or read by itself.

    BEHIND ──has read up to the end──▶ JOINING ──the hub is no further──▶ LIVE (WATCHING, if it wants values)
      ▲                                   │                                │
      └──────── the hub is further ───────┘◀── no room, or the hub failed ─┘

While a partition is LIVE, the hub's thread hands over what it has read. In the other states nothing comes in but what
is read here, from the mark on; so each event comes in once, whatever happened in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from time import monotonic
from typing import Final, Protocol

from attrs import define

from duramen.events import Cursor, DuramenError, Unavailable
from duramen.events.feed import fetch_together
from duramen.events.logging import get_logger
from duramen.events.model import Mark

from ..notifications import EventFilter, Pacer
from .buffer import ChangeBuffer, Item
from .catch_up import CatchUpReader
from .change import Change
from .change_builder import Source

__all__ = ["PAGE", "Feeder", "Intake", "interest_of", "is_later"]

PAGE: Final = 500
_RETRY: Final = 0.5

_BREATH: Final = 0.1
"""Seconds that who wants values rests at most: it reads each event in the log."""


def is_later(one: Mark, other: Mark) -> bool:
    """Whether a reader at `one` is further than one at `other`."""
    return (one.position, one.offset) > (other.position, other.offset)


class _State(Enum):
    BEHIND = auto()
    JOINING = auto()
    WATCHING = auto()
    LIVE = auto()


@define(eq=False)
class _Place:
    mark: Mark
    """Behind everything that has come in; while LIVE, where that began."""
    state: _State
    eyes: CatchUpReader | None = None


class Feeder(Protocol):
    """Every call is quick, and allowed in any thread."""

    def mark_of(self, partition: int) -> Mark:
        """How far the hub has handed out a partition."""
        ...

    def end_of(self, partition: int) -> int:
        """Where the feed ended when it was last looked at."""
        ...

    def join(self, intake: Intake, partition: int) -> None:
        """Let the hub's thread call `admit` soon."""
        ...

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Let the hub's thread call something at a time of `monotonic`."""
        ...

    def read(self, work: Callable[[], None]) -> None:
        """Run work that reads, in a thread of a pool."""
        ...


class Intake:
    """Thread-safe. `changed` has the one `lock` of a subscription, and is notified of what its consumer waits for."""

    def __init__(
        self,
        source: Source,
        interest: EventFilter,
        marks: Mapping[int, Mark],
        backlog: ChangeBuffer,
        *,
        values: bool,
        at_end: bool,
    ) -> None:
        self.interest = interest
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.backlog = backlog
        self.closed = False
        """Nothing more is delivered, not even what waits."""
        self.error: BaseException | None = None
        """Why nothing more comes in; what waits is delivered first."""
        self.wake: Callable[[], None] = _nobody
        """Called, without the lock, when there is something to deliver, or an end."""
        self.values = values
        self._source = source
        state = _State.JOINING if at_end else _State.BEHIND
        self._places = {partition: _Place(mark, state) for partition, mark in marks.items()}
        self._reading = False
        self._rest = Pacer(_BREATH if values else 0.0)
        self._alarmed = False
        self._guide: Feeder | None = None

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._places)

    def mark_of(self, partition: int) -> Mark:
        """Behind everything of a partition that has come in, but for what the hub has handed over since."""
        return self._places[partition].mark

    @property
    def ended(self) -> bool:
        return self.closed or self.error is not None

    def begin(self, guide: Feeder) -> None:
        """Start to take in."""
        self._guide = guide
        for partition, place in self._places.items():
            if place.state is _State.JOINING:
                guide.join(self, partition)
        self._read_if_behind()

    # -- from the hub's thread -------------------------------------------------------------------------------------

    def offer(self, partition: int, since: Mark, mark: Mark, change: Change) -> bool:
        """Take a change in; whether it was. Without room, the partition is BEHIND from here on."""
        with self.lock:  # a condition's own way to it takes five times as long, and this is done for each event
            place = self._places[partition]
            if place.state is not _State.LIVE or self.ended or not is_later(mark, place.mark):
                return False
            since = place.mark if is_later(place.mark, since) else since
            if len(self.backlog) >= self.backlog.most:
                place.state, place.mark = _State.BEHIND, since
                return False
            self.backlog.add(since, (Item(partition, change, mark),))
            return True

    def takes(self, partition: int) -> bool:
        """Whether `offer` can take anything in."""
        return self._places[partition].state is _State.LIVE

    def follows(self, partition: int) -> bool:
        """Whether it relies on the hub to read a partition, or to say that there is more in it."""
        place = self._places.get(partition)
        return place is not None and place.state in (_State.LIVE, _State.WATCHING)

    def admit(self, partition: int, mark: Mark) -> None:
        """Go LIVE in a partition, where the hub has handed out what is before `mark`; else read on."""
        place = self._places[partition]
        try:
            # At most a page, so that the hub is not kept: what came between my last reading and now.
            if is_later(mark, place.mark) and not self.values and self._room() > 0:
                self._take_page(partition, place, PAGE)
        except DuramenError as error:
            place.eyes = None
            self._cannot_read(error)
        with self.changed:
            if self.ended or place.state is not _State.JOINING:
                return
            if is_later(mark, place.mark):
                place.state = _State.BEHIND
            elif self.values:
                place.state = _State.WATCHING
            else:
                place.state, place.eyes = _State.LIVE, None
        self._read_if_behind()

    def moved(self, partition: int) -> None:
        """There is more in a partition that is only watched."""
        with self.changed:
            place = self._places[partition]
            if place.state is _State.WATCHING:
                place.state = _State.BEHIND
        self._read_if_behind()

    def _rested(self) -> None:
        """The rest is over: read what came meanwhile."""
        with self.lock:
            self._alarmed = False
        self._read_if_behind()

    def fall_behind(self, partition: int, mark: Mark) -> None:
        """The hub has handed out what is before `mark`, and cannot go on: read alone, and see what is wrong."""
        with self.changed:
            self._leave_hub(self._places[partition], mark)
        self._read_if_behind()

    def refuse(self, partition: int, since: Mark, error: BaseException) -> None:
        """What comes after `since` cannot be told."""
        with self.changed:
            if self._places[partition].state is _State.LIVE:
                self._leave_hub(self._places[partition], since)
        self.fail(error)

    # -- from the consumer's threads -------------------------------------------------------------------------------

    def take(self, most: int | None = None) -> list[Item]:
        """What waits, for who holds the lock."""
        return self.backlog.take(most)

    def done(self, items: Sequence[Item]) -> None:
        """These were delivered."""
        with self.lock:
            for item in items:
                self.backlog.done(item)
            guide = self._begin_to_read()
        if guide is not None:
            guide.read(self._read_on)

    def cursor(self) -> Cursor:
        """Behind what was delivered, and before what was not."""
        with self.changed:
            return Cursor(
                self._source.log.identity,
                {partition: self._done(partition, place) for partition, place in self._places.items()},
            )

    def lag(self) -> int:
        """Changes that wait, and appends that were not looked at."""
        guide = self._guide
        with self.changed:
            if guide is None or self.ended:
                return len(self.backlog)
            unread = [
                guide.end_of(partition) - self._mark(partition, place).position
                for partition, place in self._places.items()
            ]
            return len(self.backlog) + sum(appends for appends in unread if appends > 0)

    def end(self, error: BaseException | None = None) -> bool:
        """Take in no more: at the user's wish, or for an error. Whether this was the first end."""
        with self.changed:
            first = not self.ended
            if first:
                for partition, place in self._places.items():
                    self._leave_hub(place, self._mark(partition, place))
                self.error = error
            if error is None:
                self.closed = True
                self.backlog.clear()
            self.changed.notify_all()
        return first

    def stop_at(self, error: BaseException) -> None:
        """End for what its consumer has raised: nothing of what waits is delivered any more."""
        self.end(error)
        with self.changed:
            self.backlog.clear()
        self.wake()

    def after_fork(self, error: BaseException) -> None:
        """In a forked child: whoever held the lock is not here."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.error, self.wake = error, _nobody
        self.backlog.clear()

    # -- reading alone -----------------------------------------------------------------------------------------------

    def _read_if_behind(self) -> None:
        with self.lock:
            guide = self._begin_to_read()
        if guide is not None:
            guide.read(self._read_on)

    def _read_on(self) -> None:
        """In a pool's thread: page by page, until there is no room, or nothing is BEHIND."""
        assert self._guide is not None
        began, fetched = monotonic(), False
        while True:
            with self.changed:
                room = self._room()
                partition = None if self.ended or room <= 0 else self._next_behind()
                if partition is None:
                    self._reading = False
                    if room > 0:
                        self._rest.begin(monotonic() - began)
                    return
                place = self._places[partition]
            try:
                if not fetched:
                    self._fetch_behind()
                    fetched = True
                more = self._take_page(partition, place, min(PAGE, room))
            except DuramenError as error:
                with self.lock:
                    self._reading, place.eyes = False, None
                self._cannot_read(error)
                return
            if not more:
                with self.changed:
                    if place.state is _State.BEHIND:
                        place.state = _State.JOINING
                self._guide.join(self, partition)

    def _fetch_behind(self) -> None:
        """Fetch together what all partitions begin with that are to be read."""
        with self.lock:
            behind = [(partition, self._places[partition]) for partition in self._behind()]
        fetch_together(self._source.log, [self._eyes(*one).reader for one in behind])

    def _take_page(self, partition: int, place: _Place, most: int) -> bool:
        """Whether there is more in the feed, as it was last looked at."""
        seen = self._eyes(partition, place).page(most)
        with self.lock:
            if self.ended:
                return seen.more
            if seen.items:
                self.backlog.add(place.mark, seen.items)
            place.mark = seen.mark
            waiting = self.backlog.waiting
        if waiting:
            self.wake()
        if seen.error is not None:
            raise seen.error
        return seen.more

    def _eyes(self, partition: int, place: _Place) -> CatchUpReader:
        if place.eyes is None:
            place.eyes = CatchUpReader(self._source, self.interest, partition, place.mark, values=self.values)
        return place.eyes

    def _cannot_read(self, error: DuramenError) -> None:
        if isinstance(error, Unavailable):
            assert self._guide is not None
            self._guide.at(monotonic() + _RETRY, self._read_if_behind)
            return
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End with an error, and tell."""
        if self.end(error):
            get_logger("subscription").warning(
                "subscription_ended", pattern=self.interest.pattern.text, error=type(error).__name__
            )
            self.wake()

    # -- with the lock held ------------------------------------------------------------------------------------------

    def _begin_to_read(self) -> Feeder | None:
        """Who is to run `_read_on`, if there is something to read alone; that is then under way."""
        due = not (self._reading or self.ended) and len(self.backlog) <= self.backlog.most // 2
        if not due or self._next_behind() is None:
            return None
        if self._rest.left > 0 and self._guide is not None:
            if not self._alarmed:
                self._guide.at(self._rest.until, self._rested)
            self._alarmed = True
            return None
        self._reading = self._guide is not None
        return self._guide

    def _room(self) -> int:
        return self.backlog.most - len(self.backlog)

    def _next_behind(self) -> int | None:
        """The partition that is least far, so that all get on."""
        behind = self._behind()
        return min(behind, key=lambda partition: self._places[partition].mark.position) if behind else None

    def _behind(self) -> list[int]:
        return [partition for partition, place in self._places.items() if place.state is _State.BEHIND]

    def _mark(self, partition: int, place: _Place) -> Mark:
        if place.state is _State.LIVE and self._guide is not None:
            live = self._guide.mark_of(partition)
            return live if is_later(live, place.mark) else place.mark
        return place.mark

    def _done(self, partition: int, place: _Place) -> Mark:
        done, all_done = self.backlog.place(partition)
        mark = self._mark(partition, place)
        # The hub moves its mark after it has handed out a whole page: it may be behind what is done of it.
        return mark if all_done and is_later(mark, done) else done

    def _leave_hub(self, place: _Place, mark: Mark) -> None:
        if place.state is _State.LIVE and is_later(mark, place.mark):
            place.mark = mark
        place.state = _State.BEHIND


def interest_of(intake: Intake) -> EventFilter:
    """What an intake is interested in, for an `SubscriptionMatcher`."""
    return intake.interest


def _nobody() -> None:
    pass
