"""Events of many agents in the order in which they were committed, read from the feed and the logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define

from .codec import Codec, RawEvent
from .cursor import START, Mark
from .errors import CorruptEvent, DataLoss, Diverged, DuramenError
from .feed_window import Window, Windows
from .hearsay import Hearsay, Said, next_ones
from .last_digests import LastDigests
from .log import EventLog, FeedRow, Notice
from .stored import decoded, decoded_all, misshapen

__all__ = ["EVERY_LEVEL", "Fact", "FeedReader"]

EVERY_LEVEL: Final = 4

_TOGETHER: Final = 100
"""Events that are decoded at once."""
_LEAST_WINDOW: Final = 64
_MOST_WINDOW: Final = 8_192
_PAGE: Final = 2_000
_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What a window should come to. It is told by the size of those before, so one can be larger, up to a limit."""


@define(eq=False)
class Fact:
    """A stored event as it was read: decoded, its digest checked. Do not change it.

    `position` and `offset` are the reader's place behind it. Equal to itself only: compare fields.
    """

    agent: str
    seq: int
    raw: RawEvent
    digest: bytes
    position: int
    offset: int

    @property
    def mark(self) -> Mark:
        """The reader's place behind this event."""
        return Mark(self.position, self.offset, self.agent, self.seq, self.digest)


class FeedReader:
    """Reads one partition. Used by one thread at a time.

    Only events of granularity `level` or less, of agents that `wants` says yes to, are read and returned; the mark
    moves past the others all the same. Reads ahead when it is far behind, some MiB at most.
    """

    def __init__(
        self,
        log: EventLog,
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
        self._next = 0
        self._size = _LEAST_WINDOW
        self._confirmed = False
        self.mark = mark
        """Behind everything that `read` has returned or passed over."""
        self.end = mark.position
        """Where the feed ended when it was last looked at."""

    @property
    def lag(self) -> int:
        """Appends between the mark and the end of the feed, as it was last looked at."""
        return max(0, self.end - self.mark.position)

    def read(self, most: int) -> list[Fact]:
        """The next events in commit order, `most` of them at most; none at the end of the feed.

        A hundred or two at a time are cheapest: with more of them alive at once Python's collector has more to do.
        The first call looks whether the log still is what the mark was taken from, and later ones look again. Raises
        Diverged (another event stands there), DataLoss (the feed or an agent's log is shorter than what was read),
        Trimmed (what comes next was trimmed), CorruptEvent, and what reading raises. What comes before a bad event is
        returned first; after an error the mark stands before it, and the next call tries again.
        """
        facts: list[Fact] = []
        until: int | None = None
        while not facts:
            if self._window is None:
                if until is not None and self.mark.position >= until:
                    break  # nobody wants what there was; what came meanwhile is for the next call
                self._window = self._load()
                self._next = 0
                if self._window is None:
                    break
                until = self.end if until is None else until
            try:
                problem = self._take(self._window, max(1, most), facts)
            except BaseException:
                self._window = None  # who reads again reads anew
                raise
            if problem is not None and not facts:  # else it is the next call's
                self._window = None
                raise problem
        return facts

    def hear(self, notice: Notice, hearsay: Hearsay) -> list[Fact] | None:
        """The events of a notice, noted in `hearsay`, if they are the next; None if that is not sure: then `read`.

        The mark moves behind them. They are the next where nothing lies between the mark and them, and each agent's
        chain of digests continues what was read here. Raises CorruptEvent, and moves nothing, for what claims to be
        the next and cannot be: whoever sent that does not know the log.
        """
        mark = self.mark
        here = notice.before == mark.position and not mark.offset and notice.level <= self._level
        if not here or not self._confirmed or self._window is not None:
            return None
        said = next_ones(notice, self._known, self._log.chain)
        if not said:
            return None
        facts: list[Fact] = []
        wants = self._wants
        for behind, one in enumerate(said, mark.position):
            if wants is None or wants(one.agent):
                facts += self._facts_of(one, behind, notice.level)
        for one in said:
            self._known.note(one.agent, one.seq, one.digests[-1])
        hearsay.add(notice, said)
        last = said[-1]
        self.mark = Mark(notice.position, 0, last.agent, last.seq, last.digests[-1])
        self.end = max(self.end, notice.position)
        return facts

    def _facts_of(self, said: Said, behind: int, level: int) -> list[Fact]:
        agent, first, bodies = said.agent, said.first_seq, said.bodies
        raws = decoded_all(bodies, self._codec) if len(bodies) > 1 else None
        if raws is None:
            raws = [decoded(agent, seq, body, self._codec) for seq, body in enumerate(bodies, first)]
        if any(raw[2] != level for raw in raws):
            raise misshapen(agent, first)
        facts = [Fact(agent, first + at, raw, said.digests[at], behind, at + 1) for at, raw in enumerate(raws)]
        facts[-1].position, facts[-1].offset = behind + 1, 0
        return facts

    # -- handing out -----------------------------------------------------------------------------------------------

    def _take(self, window: Window, most: int, facts: list[Fact]) -> DuramenError | None:
        """Move events of the window to `facts`; what is wrong with the one behind them."""
        start, stop = self._next, min(self._next + most, window.ready)
        problem: DuramenError | None = None
        while start < stop and problem is None:
            raws, problem = self._decoded(window, slice(start, min(start + _TOGETHER, stop)))
            facts += _facts(window, slice(start, start + len(raws)), raws, self._level)
            start += len(raws)
        if start > self._next:
            run, place = window.runs[start - 1], window.places[start - 1]
            position, offset = window.positions[start - 1], window.offsets[start - 1]
            self.mark = Mark(position, offset, run.agent, run.first_seq + place, run.digests[place])
        self._next = start
        if start == len(window.runs):
            self.mark = Mark(window.end, 0, *(window.last or (self.mark.agent, self.mark.seq, self.mark.digest)))
            self._window = None
        elif start == window.ready:
            problem = window.problem
            if problem is None:  # it was cut short here
                self._window = None
        return problem

    def _decoded(self, window: Window, part: slice) -> tuple[list[RawEvent], CorruptEvent | None]:
        """The raw fields of some events, or of those before one that is corrupt, and what is wrong with it."""
        runs, places = window.runs[part], window.places[part]
        bodies = [run.bodies[place] for run, place in zip(runs, places, strict=True)]
        together = decoded_all(bodies, self._codec)
        if together is not None:
            return together, None
        raws: list[RawEvent] = []
        try:
            for run, place, body in zip(runs, places, bodies, strict=True):
                raws.append(decoded(run.agent, run.first_seq + place, body, self._codec))
        except CorruptEvent as error:
            return raws, error
        return raws, None

    # -- reading ahead ---------------------------------------------------------------------------------------------

    def _load(self) -> Window | None:
        """The window behind the mark; None at the end of the feed."""
        rows = self._rows()
        if not rows:
            if not self._confirmed:
                self._windows.confirm(self.mark)
                self._confirmed = True
            return None
        self._check_row(rows[0])
        window = self._windows.load(rows, self.mark)
        self._confirmed = True
        if len(rows) >= self._size:  # far behind: larger windows hold more events of each agent
            fitting = _WINDOW_BYTES * len(rows) // max(1, window.size)
            self._size = max(_LEAST_WINDOW, min(self._size * 2, _MOST_WINDOW, fitting))
        return window

    def _rows(self) -> list[FeedRow]:
        mark = self.mark
        rows: list[FeedRow] = []
        while len(rows) < self._size:
            asked = min(_PAGE, self._size - len(rows))
            page = self._log.feed_page(self._partition, mark.position + len(rows), asked)
            self.end = page.end
            rows += page.rows
            if len(page.rows) < asked:
                break
        if self.end < mark.position + (mark.offset > 0):
            raise DataLoss(
                f"the feed of partition {self._partition} ends at {self.end}, but was read up to {mark.position} here: "
                "the server lost what it had acknowledged, or is another; start again from the beginning",
                expected=mark.position,
                actual=self.end,
            )
        return rows

    def _check_row(self, row: FeedRow) -> None:
        """Raise Diverged if a mark inside an entry does not fit it."""
        mark = self.mark
        agent, first, count, _ = row
        if mark.offset and (mark.offset >= count or (agent, first + mark.offset - 1) != (mark.agent, mark.seq)):
            raise Diverged(
                f"entry {mark.position + 1} of the feed of partition {self._partition} is another than the one read "
                "here: the log was replaced, restored or failed over; start again from the beginning",
                agent=mark.agent,
                seq=mark.seq,
            )


def _facts(window: Window, part: slice, raws: Sequence[RawEvent], level: int) -> list[Fact]:
    places = zip(
        window.runs[part], window.places[part], window.positions[part], window.offsets[part], raws, strict=True
    )
    return [
        Fact(run.agent, run.first_seq + place, raw, run.digests[place], position, offset)
        for run, place, position, offset, raw in places
        if raw[2] <= level
    ]
