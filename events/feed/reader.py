"""Events of many agents in the order in which they were committed, read from the feed and the logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..codec import Codec, RawEvent, decode_bodies, decode_body, malformed_event_error
from ..errors import CorruptEvent, DuramenError
from ..log import FeedPage, FeedRequest, FeedSource, Notice, Span, SpanEvents
from ..model import START, Mark
from .event_batch import EventBatch, FeedEvent, event_batch_of
from .last_digests import LastDigests
from .unconfirmed import NoticedEvents, UnconfirmedEvents, next_events
from .window import Window
from .window_loader import WindowLoader

EVERY_LEVEL: Final = 4

_TOGETHER: Final = 100
"""Events that are decoded at once."""


class FeedReader:
    """Reads one partition. Used by one thread at a time.

    Only events of granularity `level` or less, of agents that `wants` accepts, are read and returned; the mark moves
    past the others all the same. A reader that is far behind loads a window of some MiB at a time.
    """

    def __init__(
        self,
        log: FeedSource,
        codec: Codec,
        partition: int,
        mark: Mark = START,
        *,
        level: int = EVERY_LEVEL,
        wants: Callable[[str], bool] | None = None,
        known: LastDigests | None = None,
    ) -> None:
        self._codec = codec
        self._chain = log.chain
        self._level = level
        self._wants = wants
        self._known = LastDigests() if known is None else known
        self._loader = WindowLoader(log, partition, level=level, end=mark.position, wants=wants, known=self._known)
        self._window: Window | None = None
        self._next = 0
        """The number of the next event of the window."""
        self._loaded_elsewhere = False
        """Whether `hand_over` brought the window."""
        self.mark = mark
        """The place after everything that `read` has returned or passed over."""

    @property
    def end(self) -> int:
        """Where the feed ended when it was last read."""
        return self._loader.end

    @property
    def lag(self) -> int:
        """Appends between the mark and the end of the feed, as it was last read."""
        return max(0, self.end - self.mark.position)

    @property
    def erasures(self) -> int:
        """How often entries of the feed had been made nobody's when the events of the last batch were read."""
        return self._loader.erasures

    @property
    def is_idle(self) -> bool:
        """Whether everything that was fetched, or requested ahead, was returned."""
        return self._window is None and not self._loader.has_request

    def read(self, most: int) -> list[FeedEvent]:
        """The next events in commit order, `most` of them at most; none at the end of the feed.

        A hundred or two at a time are cheapest: with more of them alive Python's garbage collector has more to do.
        The first call compares the mark with the log, and later ones do so again. Raises Diverged (another event
        stands there), DataLoss (the feed or an agent's log is shorter than what was read), Trimmed (what comes next was
        trimmed), CorruptEvent, and what reading raises. Events before a bad one are returned first; after an error the
        mark stands before it, and the next call tries again.
        """
        batch = self.read_batch(most)
        return [] if batch is None else batch.events()

    def read_batch(self, most: int, *, ahead: bool = False) -> EventBatch | None:
        """As `read`, in columns; None at the end of the feed. May be empty where a window was handed over.

        With `ahead` the next window is requested on a connection that is held until `release`.
        """
        until: int | None = None
        while True:
            if self._window is None:
                if until is not None and self.mark.position >= until:
                    return None  # no event up to there is wanted; what came meanwhile is for the next call
                self._window, self._loaded_elsewhere = self._loader.load(self.mark, ahead=ahead), False
                self._next = 0
                if self._window is None:
                    return None
                until = self.end if until is None else until
            else:
                self._loader.send_more()
            try:
                batch, problem = self._next_batch(self._window, max(1, most))
            except BaseException:
                self._window = None  # the next call loads it again
                raise
            if len(batch) or (self._loaded_elsewhere and problem is None):
                return batch  # a problem is the next call's
            if problem is not None:
                self._window = None
                raise problem

    def release(self) -> None:
        """Release the connection, and drop what was fetched or requested but not returned.

        To be called after `read_batch` with `ahead`, when the reader pauses. Entries after a window that was returned
        are kept, and so is a window that was handed over.
        """
        if not self.is_idle and not self._loaded_elsewhere:
            self._window = None
            self._loader.drop()
        self._loader.release()

    def hand_over(self, window: Window, end: int) -> None:
        """Return this window next, which another process loaded from this reader's mark on, when the feed had that end.

        To be called where `is_idle`; the window must have no problem.
        """
        self._window, self._next, self._loaded_elsewhere = window, 0, True
        self._loader.skip_to(end)

    # -- together with other partitions ------------------------------------------------------------------------------

    def next_request(self) -> FeedRequest | None:
        """What it would ask its feed for next, if that is little."""
        return None if self._window is not None else self._loader.next_request(self.mark)

    def plan_with(self, request: FeedRequest, page: FeedPage) -> list[Span]:
        """The events to fetch for the page of `next_request`; none where the reader has to read by itself."""
        return self._loader.plan_with(request, page, self.mark)

    def provide(self, found: Sequence[SpanEvents | None]) -> None:
        """The events of the spans of `plan_with`: all that was asked for, or None."""
        self._loader.provide(found)

    # -- from notices ------------------------------------------------------------------------------------------------

    def accept_notices(self, batch: Sequence[Notice], unconfirmed: UnconfirmedEvents) -> list[FeedEvent] | None:
        """The events of one batch of appends, added to `unconfirmed`, if they are the next; None: call `read`.

        `batch` has the notices of all its levels. They are the next where nothing lies between the mark and them, and
        each agent's chain of digests continues what was read here; the mark moves after them. Raises CorruptEvent, and
        moves nothing, for events that claim to be the next and cannot be: their sender does not know the log.
        """
        mark, notice = self.mark, batch[0]
        is_next = notice.before == mark.position and not mark.offset and notice.levels < 2 << self._level
        if not is_next or not self._loader.confirmed or self._window is not None:
            return None
        noticed = next_events(batch, self._known, self._chain)
        if not noticed:
            return None
        events: list[FeedEvent] = []
        wants = self._wants
        for position, one in enumerate(noticed, mark.position):
            if wants is None or wants(one.agent):
                events += self._events_of(one, position)
        for one in noticed:
            self._known.note(one.agent, one.seq, one.digests[-1])
        unconfirmed.add(notice.before, noticed)
        last = noticed[-1]
        self.mark = Mark(notice.position, 0, last.agent, last.seq, last.digests[-1])
        self._loader.note_end(notice.position)
        return events

    def _events_of(self, noticed: NoticedEvents, position: int) -> list[FeedEvent]:
        """The events of one append, whose feed entry comes after `position`."""
        agent, first, bodies = noticed.agent, noticed.first_seq, noticed.bodies
        raws = decode_bodies(bodies, self._codec) if len(bodies) > 1 else None
        if raws is None:
            raws = [decode_body(agent, seq, body, self._codec) for seq, body in enumerate(bodies, first)]
        if not all(noticed.bits >> raw[2] & 1 for raw in raws):  # on the channel of another level
            raise malformed_event_error(agent, first)
        digests = noticed.digests
        events = [FeedEvent(agent, first + at, raw, digests[at], position, at + 1) for at, raw in enumerate(raws)]
        events[-1].position, events[-1].offset = position + 1, 0
        return events

    # -- returning ---------------------------------------------------------------------------------------------------

    def _next_batch(self, window: Window, most: int) -> tuple[EventBatch, DuramenError | None]:
        """The next events of the window, and what is wrong with the one after them."""
        first, stop = self._next, min(self._next + most, window.ready)
        raws: list[RawEvent] = []
        problem: DuramenError | None = None
        start = first
        while start < stop and problem is None:
            part, problem = self._decode(window, start, min(start + _TOGETHER, stop))
            raws += part
            start = first + len(raws)
        if start > first:
            self.mark = window.mark(start - 1)
        self._next = start
        if start == window.count:
            self.mark = window.end_mark(self.mark)
            self._window = None
        elif start == window.ready:
            problem = window.problem
            if problem is None:  # it was cut short here
                self._window = None
        return event_batch_of(window, first, raws, self._level), problem

    def _decode(self, window: Window, start: int, stop: int) -> tuple[list[RawEvent], CorruptEvent | None]:
        """The raw fields of some events, or of those before a corrupt one and what is wrong with it."""
        bodies = window.bodies[start:stop]
        together = decode_bodies(bodies, self._codec)
        if together is not None:
            return together, None
        raws: list[RawEvent] = []
        try:
            for at, body in enumerate(bodies, start):
                raws.append(decode_body(window.agents[at], window.seqs[at], body, self._codec))
        except CorruptEvent as error:
            return raws, error
        return raws, None
