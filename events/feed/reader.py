"""Events of many agents in the order in which they were committed, read from the feed and the logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..codec import Codec, RawEvent, decode_bodies, decode_body, malformed_event_error
from ..errors import CorruptEvent, DataLoss, Diverged, DuramenError
from ..log import FeedPage, FeedRequest, FeedSource, Notice, ReadAhead, Span, SpanEvents
from ..model import START, Mark
from .event_batch import EventBatch, FeedEvent, event_batch_of
from .last_digests import LastDigests
from .unconfirmed import NoticedEvents, UnconfirmedEvents, next_ones
from .window import Window, Windows
from .window_plan import Plan

__all__ = ["EVERY_LEVEL", "EventBatch", "FeedEvent", "FeedReader"]

EVERY_LEVEL: Final = 4

_TOGETHER: Final = 100
"""Events that are decoded at once."""
_LEAST_WINDOW: Final = 64
_MOST_WINDOW: Final = 16_384
"""Entries. Of many agents: the longer a window, the more of its events follow another of the same agent."""
_WINDOW_EVENTS: Final = 16_384
_GROWTH: Final = 8
"""Times the window before: to work on that takes longer than to fetch so much more."""
_RESTED_WINDOW: Final = 512
_PAGE: Final = 2_000
_FIELDS: Final = 4
"""Of an entry."""
_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What a window should come to. It is told by the size of those before, so one can be larger, up to a limit."""


class FeedReader:
    """Reads one partition. Used by one thread at a time.

    Only events of granularity `level` or less, of agents that `wants` says yes to, are read and returned; the mark
    moves past the others all the same. Reads a window of some MiB at a time when it is far behind, and where it is told
    to has the next one on its way meanwhile.
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
        self._log = log
        self._codec = codec
        self._partition = partition
        self._level = level
        self._wants = wants
        self._known = LastDigests() if known is None else known
        self._windows = Windows(log, partition, (2 << level) - 2, wants, self._known)
        self._window: Window | None = None
        self._next: int = 0
        self._given = False
        """Whether another reader has read the window."""
        self._size = self._most = _LEAST_WINDOW
        self._ahead: ReadAhead | None = None
        self._planned: Plan | None = None
        """Of the window that was asked for ahead."""
        self._provided: Sequence[SpanEvents | None] = ()
        self._foreseen: tuple[FeedRequest, FeedPage] | None = None
        self._entries: list[Any] = []
        """That are read already, as in `FeedPage.fields`."""
        self._entries_at = 0
        """The position they are behind."""
        self._confirmed = False
        self.mark = mark
        """Behind everything that `read` has returned or passed over."""
        self.end = mark.position
        """Where the feed ended when it was last looked at."""

    @property
    def lag(self) -> int:
        """Appends between the mark and the end of the feed, as it was last looked at."""
        return max(0, self.end - self.mark.position)

    @property
    def between(self) -> bool:
        """Whether all that was fetched, or asked for ahead, was handed out."""
        return self._window is None and self._planned is None

    def read(self, most: int) -> list[FeedEvent]:
        """The next events in commit order, `most` of them at most; none at the end of the feed.

        A hundred or two at a time are cheapest: with more of them alive at once Python's collector has more to do.
        The first call looks whether the log still is what the mark was taken from, and later ones look again. Raises
        Diverged (another event stands there), DataLoss (the feed or an agent's log is shorter than what was read),
        Trimmed (what comes next was trimmed), CorruptEvent, and what reading raises. What comes before a bad event is
        returned first; after an error the mark stands before it, and the next call tries again.
        """
        facts = self.take(most)
        return [] if facts is None else facts.each()

    def take(self, most: int, *, ahead: bool = False) -> EventBatch | None:
        """As `read`, in columns; None at the end of the feed. May be none of a window that was given.

        With `ahead` a connection is held, on which what comes next is under way, until `rest`.
        """
        until: int | None = None
        while True:
            if self._window is None:
                if until is not None and self.mark.position >= until:
                    return None  # nobody wants what there was; what came meanwhile is for the next call
                self._window, self._given = self._load(ahead=ahead), False
                self._next = 0
                if self._window is None:
                    return None
                until = self.end if until is None else until
            elif self._ahead is not None:
                self._ahead.go_on()
            try:
                facts, problem = self._take(self._window, max(1, most))
            except BaseException:
                self._window = None  # who reads again reads anew
                raise
            if len(facts) or (self._given and problem is None):
                return facts  # a problem is the next call's
            if problem is not None:
                self._window = None
                raise problem

    def rest(self) -> None:
        """Let go of what was fetched or asked for and not handed out: nobody reads on for a while.

        To be called after `take` with `ahead`. The entries behind a window that was handed out are kept, and a window
        that was given.
        """
        if not self.between and not self._given:
            self._window, self._planned, self._entries, self._provided = None, None, [], ()
        self._foreseen = None
        self._size = min(self._size, _RESTED_WINDOW)
        if self._ahead is not None:
            self._ahead.close()

    # -- with other partitions ---------------------------------------------------------------------------------------

    def wish(self) -> FeedRequest | None:
        """What it would ask its feed for next, if that is little. What was foreseen before is forgotten."""
        self._foreseen = None
        if self.lag > _LEAST_WINDOW or self._size > _RESTED_WINDOW or not self.between or self._entries:
            return None
        return self._partition, self.mark.position, self._size

    def foresee(self, wish: FeedRequest, page: FeedPage) -> list[Span]:
        """Take what was asked for, and tell which events to ask for; none where that has to be looked at in turn."""
        self._foreseen = (wish, page)
        try:
            plan = self._next_plan()
        except DuramenError:  # it is raised again when this is read
            return []
        if plan is None:
            self._foreseen = (wish, page)  # whoever reads next finds the end in it
            return []
        self._planned = plan
        return [job.span() for job in plan.jobs]

    def provide(self, stretches: Sequence[SpanEvents | None]) -> None:
        """What was found of the events of `foresee`, all that was asked for or None of each."""
        self._provided = stretches

    # -- between processes -------------------------------------------------------------------------------------------

    def window(self) -> Window | None:
        """The next window, whole, for who hands it on, and ask for the one behind it; None at the end of the feed.

        The mark moves behind what is ready of it. Not to be mixed with `take`. Raises as `read`, but for what is wrong
        with an event: that is the window's `problem`.
        """
        window = self._load(ahead=True)
        if window is not None and window.ready == window.count:
            self.mark = self._behind(window)
        elif window is not None and window.ready:
            self.mark = window.mark(window.ready - 1)
        if self._ahead is not None:
            self._ahead.hurry()
        return window

    def size_as(self, other: FeedReader) -> None:
        """Begin with windows nearly as large as another reader's; not quite: the first cannot be asked for ahead."""
        self._most = other._most
        self._size = max(_LEAST_WINDOW, self._most // _GROWTH)

    def settle(self) -> None:
        """As `rest`, after `window`, but wait for what was asked for: the connection is needed."""
        self._arrived()
        self.rest()

    def give(self, window: Window, end: int) -> None:
        """Hand out this window next, which another reader has read, from this one's mark on, to `end` of the feed.

        To be called where `between`; nothing may be wrong with the window.
        """
        self._window, self._next, self._given = window, 0, True
        self._entries, self._confirmed = [], True
        self.end = max(self.end, end)

    # -- what was told -------------------------------------------------------------------------------------------------

    def hear(self, messages: Sequence[Notice], hearsay: UnconfirmedEvents) -> list[FeedEvent] | None:
        """The events of a batch, noted in `hearsay`, if they are the next; None if that is not sure: then `read`.

        `messages` are those of all its levels.

        The mark moves behind them. They are the next where nothing lies between the mark and them, and each agent's
        chain of digests continues what was read here. Raises CorruptEvent, and moves nothing, for what claims to be
        the next and cannot be: whoever sent that does not know the log.
        """
        mark, told = self.mark, messages[0]
        here = told.before == mark.position and not mark.offset and told.levels < 2 << self._level
        if not here or not self._confirmed or self._window is not None:
            return None
        said = next_ones(messages, self._known, self._log.chain)
        if not said:
            return None
        facts: list[FeedEvent] = []
        wants = self._wants
        for behind, one in enumerate(said, mark.position):
            if wants is None or wants(one.agent):
                facts += self._facts_of(one, behind)
        for one in said:
            self._known.note(one.agent, one.seq, one.digests[-1])
        hearsay.add(told.before, said)
        last = said[-1]
        self.mark = Mark(told.position, 0, last.agent, last.seq, last.digests[-1])
        self.end = max(self.end, told.position)
        return facts

    def _facts_of(self, said: NoticedEvents, behind: int) -> list[FeedEvent]:
        agent, first, bodies = said.agent, said.first_seq, said.bodies
        raws = decode_bodies(bodies, self._codec) if len(bodies) > 1 else None
        if raws is None:
            raws = [decode_body(agent, seq, body, self._codec) for seq, body in enumerate(bodies, first)]
        if not all(said.bits >> raw[2] & 1 for raw in raws):  # on the channel of another level
            raise malformed_event_error(agent, first)
        facts = [FeedEvent(agent, first + at, raw, said.digests[at], behind, at + 1) for at, raw in enumerate(raws)]
        facts[-1].position, facts[-1].offset = behind + 1, 0
        return facts

    # -- handing out -----------------------------------------------------------------------------------------------

    def _take(self, window: Window, most: int) -> tuple[EventBatch, DuramenError | None]:
        """Events of the window, and what is wrong with the one behind them."""
        first, stop = self._next, min(self._next + most, window.ready)
        raws: list[RawEvent] = []
        problem: DuramenError | None = None
        start = first
        while start < stop and problem is None:
            part, problem = self._decoded(window, start, min(start + _TOGETHER, stop))
            raws += part
            start = first + len(raws)
        if start > first:
            self.mark = window.mark(start - 1)
        self._next = start
        if start == window.count:
            self.mark = self._behind(window)
            self._window = None
        elif start == window.ready:
            problem = window.problem
            if problem is None:  # it was cut short here
                self._window = None
        return event_batch_of(window, first, raws, self._level), problem

    def _behind(self, window: Window) -> Mark:
        """The mark behind all of it."""
        return Mark(window.end, 0, *(window.last or (self.mark.agent, self.mark.seq, self.mark.digest)))

    def _decoded(self, window: Window, start: int, stop: int) -> tuple[list[RawEvent], CorruptEvent | None]:
        """The raw fields of some events, or of those before one that is corrupt, and what is wrong with it."""
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

    # -- fetching --------------------------------------------------------------------------------------------------

    def _load(self, *, ahead: bool) -> Window | None:
        """The window behind the mark; None at the end of the feed."""
        plan, given = self._arrived()
        plan = plan or self._next_plan()
        if plan is None:
            if not self._confirmed:
                self._windows.confirm(self.mark)
                self._confirmed = True
            return None
        window = self._windows.load(plan, given)
        self._confirmed = True
        count = plan.end - plan.mark.position
        if count >= self._size:  # far behind: larger windows hold more events of each agent
            fitting = min(_WINDOW_BYTES * count // (window.size + 1), _WINDOW_EVENTS * count // (window.count + 1))
            self._most = max(_LEAST_WINDOW, min(_MOST_WINDOW, fitting))
            self._size = min(self._size * _GROWTH, self._most)
        if ahead:
            self._ask_ahead(window)
        return window

    def _next_plan(self) -> Plan | None:
        entries = self._next_entries(self.mark)
        if not entries:
            return None
        self._check_first(entries)
        return self._plan(entries, self.mark)

    def _plan(self, entries: list[Any], mark: Mark) -> Plan:
        plan = self._windows.plan(FeedPage(entries[: _FIELDS * self._size], self.end), mark)
        self._entries, self._entries_at = entries[_FIELDS * (plan.end - mark.position) :], plan.end
        return plan

    def _next_entries(self, mark: Mark) -> list[Any]:
        """Entries behind a mark, for one window."""
        known = self._entries_at == mark.position and not mark.offset
        entries, self._entries = self._entries if known else [], []
        count = len(entries) // _FIELDS
        while count < self._size:
            asked = min(_PAGE, self._size - count)
            page = self._feed_page((self._partition, mark.position + count, asked))
            self.end = page.end
            entries += page.fields
            found = len(page.fields) // _FIELDS
            count += found
            if found < asked:
                break
        if self.end < mark.position + (mark.offset > 0):
            raise DataLoss(
                f"the feed of partition {self._partition} ends at {self.end}, but was read up to {mark.position} here: "
                "the server lost what it had acknowledged, or is another; start again from the beginning",
                expected=mark.position,
                actual=self.end,
            )
        return entries

    def _feed_page(self, wish: FeedRequest) -> FeedPage:
        foreseen, self._foreseen = self._foreseen, None
        return foreseen[1] if foreseen is not None and foreseen[0] == wish else self._log.feed_page(*wish)

    def _ask_ahead(self, window: Window) -> None:
        """Ask for the window behind this one, and the entries behind that."""
        left = self.end - window.end
        if left <= 0 or window.ready < window.count or window.last is None:
            return
        mark = Mark(window.end, 0, *window.last)
        if len(self._entries) < _FIELDS * min(left, self._size):
            try:
                self._entries = self._next_entries(mark)
            except DuramenError:  # it is raised again in its turn, behind this window
                return
        if self._ahead is None:
            self._ahead = self._log.ahead(self._partition)
        plan = self._planned = self._plan(self._entries, mark)
        there = len(self._entries) // _FIELDS
        wanted = max(0, min(self._size * _GROWTH, self._most, self.end - plan.end) - there)
        self._ahead.ask([job.span() for job in plan.jobs], plan.end + there, wanted, 2 * _WINDOW_BYTES)

    def _arrived(self) -> tuple[Plan | None, Sequence[SpanEvents | None]]:
        """The window that was asked for ahead, if it is the next, and what was found of it."""
        plan, self._planned = self._planned, None
        given, self._provided = self._provided, ()
        if plan is None:
            return None, ()
        page = None
        if self._ahead is not None and not given:
            given, page = self._ahead.take()
        if page is not None:
            self._entries += page.fields
            self.end = max(self.end, page.end)
        return (plan, given) if plan.mark == self.mark else (None, ())

    def _check_first(self, entries: list[Any]) -> None:
        """Raise Diverged if a mark inside an entry does not fit it."""
        mark = self.mark
        agent, first, count, _ = entries[:_FIELDS]
        if mark.offset and (mark.offset >= count or (agent, first + mark.offset - 1) != (mark.agent, mark.seq)):
            raise Diverged(
                f"entry {mark.position + 1} of the feed of partition {self._partition} is another than the one read "
                "here: the log was replaced, restored or failed over; start again from the beginning",
                agent=mark.agent,
                seq=mark.seq,
            )
