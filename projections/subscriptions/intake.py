"""How far one subscription is in each partition, and how events come in: from the hub, or read by itself.

    BEHIND ──has read up to the end──▶ JOINING ──the hub is no further──▶ LIVE (WATCHING, if it wants values)
      ▲                                   │                                │
      └──────── the hub is further ───────┘◀── no room, or the hub failed ─┘

While a partition is LIVE, the hub's thread hands over what it has read. In the other states only what is read here
comes in, from the mark on; so each event comes in once, whatever happened in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
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
from .change import Source
from .delivery import Delivery
from .erasures import ErasureWatch, erased_change, place_of

PAGE: Final = 500
_RETRY: Final = 0.5

_PAUSE: Final = 0.1
"""Seconds that a subscription with values pauses at most: it reads each event in the log."""


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
    """After everything that has come in; while LIVE, where that began."""
    state: _State
    reader: CatchUpReader | None = None
    doubted: bool = False
    """Whether the log may be another one than was read: a new reader compares."""
    erasures: int = -1
    """As of the page that was last read here; -1: none since it was LIVE."""


class Feeder(Protocol):
    """The hub, as an intake sees it. Every call is quick, and allowed in any thread."""

    def mark_of(self, partition: int) -> Mark:
        """How far the hub has handed out a partition."""
        ...

    def end_of(self, partition: int) -> int:
        """Where the feed ended at the last heartbeat."""
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
    """Thread-safe. `changed` uses the one `lock` of a subscription, and is notified of what its consumer waits for."""

    def __init__(
        self,
        source: Source,
        event_filter: EventFilter,
        delivery: Delivery,
        marks: Mapping[int, Mark],
        *,
        at_end: bool,
    ) -> None:
        self.event_filter = event_filter
        self.delivery = delivery
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.buffer = ChangeBuffer(delivery.buffer, latest_only=delivery.latest_only)
        self.closed = False
        """Nothing more is delivered, not even the changes that wait."""
        self.error: BaseException | None = None
        """Why nothing more comes in; the changes that wait are delivered first."""
        self.watch = ErasureWatch(event_filter)
        """Who it is told of when they are erased. Guarded by `lock`."""
        self.wake: Callable[[], None] = _do_nothing
        """Called, without the lock, when there is something to deliver, or an end."""
        self._source = source
        state = _State.JOINING if at_end else _State.BEHIND
        self._places = {partition: _Place(mark, state) for partition, mark in marks.items()}
        self._reading = False
        self._pacer = Pacer(_PAUSE if delivery.values else 0.0)
        self._has_timer = False
        self._feeder: Feeder | None = None

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._places)

    def mark_of(self, partition: int) -> Mark:
        """The mark after all that had come in of a partition when it became LIVE, or until now if it is not."""
        return self._places[partition].mark

    def erasures_of(self, partition: int) -> int:
        """How often agents had been erased in a partition when it last read there; -1: it has not since it was LIVE."""
        return self._places[partition].erasures

    @property
    def ended(self) -> bool:
        return self.closed or self.error is not None

    def start(self, feeder: Feeder) -> None:
        """Begin to join the hub, and to read alone where that is needed."""
        self._feeder = feeder
        for partition, place in self._places.items():
            if place.state is _State.JOINING:
                feeder.join(self, partition)
        self._read_if_behind()

    # -- from the hub's thread -------------------------------------------------------------------------------------

    def offer(self, partition: int, since: Mark, item: Item) -> bool:
        """Buffer a change; whether that was possible. Without room, the partition is BEHIND from here on."""
        with self.lock:  # through the condition this takes five times as long, and it is done for each event
            place = self._places[partition]
            if place.state is not _State.LIVE or self.ended or not is_later(item.mark, place.mark):
                return False
            since = place.mark if is_later(place.mark, since) else since
            if len(self.buffer) >= self.buffer.capacity:
                place.state, place.mark = _State.BEHIND, since
                return False
            self.buffer.add(since, (item,))
            self.watch.note_one(item)
            return True

    def watched(self, partition: int) -> list[str]:
        """The agents of a partition whose erasure it is to be told of."""
        with self.lock:
            return self.watch.agents(partition)

    def tell_erased(self, partition: int, erased: Mapping[str, int]) -> set[str]:
        """Buffer a change for each of these agents, by their `erased_until`, that it has not been told of.

        For a partition that is LIVE; where it is not, it finds out by itself.
        """
        with self.lock:
            place = self._places[partition]
            if place.state is not _State.LIVE or self.ended:
                return set()
            return self._buffer_erased(partition, self._mark(partition, place), erased)

    def is_live(self, partition: int) -> bool:
        """Whether the hub offers it the events of a partition."""
        return self._places[partition].state is _State.LIVE

    def is_following(self, partition: int) -> bool:
        """Whether it relies on the hub to read a partition, or to say that there is more in it."""
        place = self._places.get(partition)
        return place is not None and place.state in (_State.LIVE, _State.WATCHING)

    def admit(self, partition: int, mark: Mark) -> None:
        """Go LIVE in a partition if it has come as far as `mark`, where the hub is; otherwise read on."""
        place = self._places[partition]
        try:
            # Events that came since the last reading; at most a page, so as not to delay the hub.
            if is_later(mark, place.mark) and not self.delivery.values and self._room() > 0:
                self._buffer_page(partition, place, PAGE)
        except DuramenError as error:
            place.reader = None
            self._handle_unreadable(error)
        with self.changed:
            if self.ended or place.state is not _State.JOINING:
                return
            if is_later(mark, place.mark):
                place.state = _State.BEHIND
            elif self.delivery.values:
                place.state = _State.WATCHING
            else:
                place.state, place.reader = _State.LIVE, None
        self._read_if_behind()

    def read_more(self, partition: int) -> None:
        """Read on in a partition that is only watched: there is more in it."""
        with self.changed:
            place = self._places[partition]
            if place.state is _State.WATCHING:
                place.state = _State.BEHIND
        self._read_if_behind()

    def _end_pause(self) -> None:
        """Read what came during the pause."""
        with self.lock:
            self._has_timer = False
        self._read_if_behind()

    def fall_behind(self, partition: int, mark: Mark) -> None:
        """Read alone from `mark` on, where the hub cannot go on, and find out what is wrong."""
        with self.changed:
            self._leave_hub(self._places[partition], mark)
            self._places[partition].doubted = True
        self._read_if_behind()

    def refuse(self, partition: int, since: Mark, error: BaseException) -> None:
        """End with an error, where the events after `since` cannot be handed out."""
        with self.changed:
            if self._places[partition].state is _State.LIVE:
                self._leave_hub(self._places[partition], since)
        self.fail(error)

    # -- from the consumer's threads -------------------------------------------------------------------------------

    def confirm(self, items: Sequence[Item]) -> None:
        """Note that items were delivered, in the order in which the buffer gave them out."""
        with self.lock:
            for item in items:
                self.buffer.confirm(item)
            feeder = self._begin_to_read()
        if feeder is not None:
            feeder.read(self._read_on)

    def cursor(self) -> Cursor:
        """The cursor after everything that was delivered, and before everything that was not."""
        with self.changed:
            return Cursor(
                self._source.log.identity,
                {partition: self._delivered(partition, place) for partition, place in self._places.items()},
            )

    def lag(self) -> int:
        """Changes that wait, and appends that were not read."""
        feeder = self._feeder
        with self.changed:
            if feeder is None or self.ended:
                return len(self.buffer)
            unread = [
                feeder.end_of(partition) - self._mark(partition, place).position
                for partition, place in self._places.items()
            ]
            return len(self.buffer) + sum(appends for appends in unread if appends > 0)

    def end(self, error: BaseException | None = None) -> bool:
        """Let nothing more come in: the user has closed it, or there is an error. Whether this was the first end."""
        with self.changed:
            first = not self.ended
            if first:
                for partition, place in self._places.items():
                    self._leave_hub(place, self._mark(partition, place))
                self.error = error
            if error is None:
                self.closed = True
                self.buffer.clear()
            self.changed.notify_all()
        return first

    def stop(self, error: BaseException) -> None:
        """End with what its callback has raised: the changes that wait are not delivered."""
        self.end(error)
        with self.changed:
            self.buffer.clear()
        self.wake()

    def after_fork(self, error: BaseException) -> None:
        """End, in a forked child: the thread that may hold the lock lives in the parent."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.error, self.wake = error, _do_nothing
        self.buffer.clear()

    # -- reading alone -----------------------------------------------------------------------------------------------

    def _read_if_behind(self) -> None:
        with self.lock:
            feeder = self._begin_to_read()
        if feeder is not None:
            feeder.read(self._read_on)

    def _read_on(self) -> None:
        """Read page by page, in a pool's thread, until there is no room, or nothing is BEHIND."""
        assert self._feeder is not None
        began, fetched = monotonic(), False
        while True:
            with self.changed:
                room = self._room()
                partition = None if self.ended or room <= 0 else self._next_behind()
                if partition is None:
                    self._reading = False
                    if room > 0:
                        self._pacer.begin(monotonic() - began)
                    return
                place = self._places[partition]
            try:
                if not fetched:
                    self._fetch_behind()
                    fetched = True
                more = self._buffer_page(partition, place, min(PAGE, room))
            except DuramenError as error:
                with self.lock:
                    self._reading, place.reader = False, None
                self._handle_unreadable(error)
                return
            if not more:
                with self.changed:
                    if place.state is _State.BEHIND:
                        place.state = _State.JOINING
                self._feeder.join(self, partition)

    def _fetch_behind(self) -> None:
        """Fetch the first pages of all BEHIND partitions together."""
        with self.lock:
            behind = [(partition, self._places[partition]) for partition in self._behind()]
        fetch_together(self._source.log, [self._reader(*one).reader for one in behind])

    def _buffer_page(self, partition: int, place: _Place, most: int) -> bool:
        """Buffer the next page of a partition; whether the feed has more."""
        page = self._reader(partition, place).page(most)
        erased: dict[str, int] = {}
        if page.erasures != place.erasures:
            erased = self._source.log.erased_agents(partition, self.watched(partition))
        with self.lock:
            if self.ended:
                return page.more
            items, place.erasures = page.items, page.erasures
            if told := self._buffer_erased(partition, place.mark, erased):
                # What was read of them before is gone by now; a new reader has nothing of it.
                items = [one for one in items if not _is_of_erased(one, told, erased)]
                place.doubted = True
            if items:
                self.buffer.add(place.mark, items)
                self.watch.note(items)
            place.mark = page.mark
            waiting = self.buffer.waiting
        if waiting:
            self.wake()
        if page.error is not None:
            raise page.error
        return page.more

    def _reader(self, partition: int, place: _Place) -> CatchUpReader:
        if place.reader is None or place.doubted:
            place.doubted = False
            values = self.delivery.values
            place.reader = CatchUpReader(self._source, self.event_filter, partition, place.mark, values=values)
        return place.reader

    def _handle_unreadable(self, error: DuramenError) -> None:
        if isinstance(error, Unavailable):
            assert self._feeder is not None
            self._feeder.at(monotonic() + _RETRY, self._read_if_behind)
            return
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End with an error, log it, and wake the consumer."""
        if self.end(error):
            get_logger("subscription").warning(
                "subscription_ended", pattern=self.event_filter.pattern.text, error=type(error).__name__
            )
            self.wake()

    # -- with the lock held ------------------------------------------------------------------------------------------

    def _begin_to_read(self) -> Feeder | None:
        """The feeder that is to run `_read_on`; None if nothing is to be read alone, or that is under way."""
        due = not (self._reading or self.ended) and len(self.buffer) <= self.buffer.capacity // 2
        if not due or self._next_behind() is None:
            return None
        if self._pacer.left > 0 and self._feeder is not None:
            if not self._has_timer:
                self._feeder.at(self._pacer.until, self._end_pause)
            self._has_timer = True
            return None
        self._reading = self._feeder is not None
        return self._feeder

    def _room(self) -> int:
        return self.buffer.capacity - len(self.buffer)

    def _next_behind(self) -> int | None:
        """The BEHIND partition with the lowest mark, so that all make progress."""
        behind = self._behind()
        return min(behind, key=lambda partition: self._places[partition].mark.position) if behind else None

    def _behind(self) -> list[int]:
        return [partition for partition, place in self._places.items() if place.state is _State.BEHIND]

    def _mark(self, partition: int, place: _Place) -> Mark:
        if place.state is _State.LIVE and self._feeder is not None:
            live = self._feeder.mark_of(partition)
            return live if is_later(live, place.mark) else place.mark
        return place.mark

    def _delivered(self, partition: int, place: _Place) -> Mark:
        delivered, is_all = self.buffer.delivered(partition)
        mark = self._mark(partition, place)
        # The hub moves its mark after it has handed out a whole page: deliveries of that page may be further.
        return mark if is_all and is_later(mark, delivered) else delivered

    def _buffer_erased(self, partition: int, mark: Mark, erased: Mapping[str, int]) -> set[str]:
        told = self.watch.take(erased)
        if told:  # also where there is no room: they are few
            self.buffer.add(mark, [Item(partition, erased_change(agent), mark) for agent in sorted(told)])
        return told

    def _leave_hub(self, place: _Place, mark: Mark) -> None:
        if place.state is _State.LIVE and is_later(mark, place.mark):
            place.mark = mark
        place.state, place.erasures = _State.BEHIND, -1


def filter_of(intake: Intake) -> EventFilter:
    """The filter of an intake, for a `SubscriptionMatcher`."""
    return intake.event_filter


def _is_of_erased(item: Item, told: Collection[str], erased: Mapping[str, int]) -> bool:
    agent = item.change.agent
    return agent in told and place_of(item.mark) <= erased[agent]


def _do_nothing() -> None:
    pass
