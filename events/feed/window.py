"""A part of a feed with the events it names, fetched agent by agent, to be handed out in commit order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import define, field

from ..errors import CorruptEvent, DataLoss, Diverged, DuramenError
from ..log import FeedPage, FeedSource, Span, SpanEvents
from ..model import Mark
from .last_digests import LastDigests
from .slice import MOST_IN_CALL, DigestProbe, FeedSlice, Job
from .window_plan import Places, Plan, Planner

__all__ = ["Window", "Windows"]

_WINDOW_BYTES: Final = 16 * 1024 * 1024
"""Of events in one window: beyond these it is cut short."""
_FETCHED: Final = 32_768
_CALL_BYTES: Final = 1024 * 1024
_CALL_SPANS: Final = 500


@define(eq=False)
class Window:
    """The wanted events of some entries behind a mark, in commit order: an element of each of the four lists.

    Their chains of digests hold. Where not all can be handed out the lists end before the first that cannot.
    """

    count: int
    """How many events are wanted."""
    end: int
    """Position behind all entries."""
    places: Places
    agents: list[str] = field(factory=list[str])
    seqs: list[int] = field(factory=list[int])
    bodies: list[bytes] = field(factory=list[bytes])
    digests: list[bytes] = field(factory=list[bytes])
    problem: DuramenError | None = None
    """What is wrong with the event behind them. None though there are more: the window was cut short."""
    last: tuple[str, int, bytes] | None = None
    """The last event before `end`, whether it is wanted or not; None where it was trimmed."""
    size: int = 0
    """Bytes of the events."""

    @property
    def ready(self) -> int:
        """How many of the events can be handed out."""
        return len(self.bodies)

    def mark(self, number: int) -> Mark:
        """Behind that event."""
        position, offset = self.places.behind(number)
        return Mark(position, offset, self.agents[number], self.seqs[number], self.digests[number])


class Windows:
    """Fetches windows of one partition for one reader, and notes the last digest of each agent in `known`.

    Wanted are events of agents that `wants` says yes to, in entries that have one of the levels whose bits are given.
    """

    def __init__(
        self, log: FeedSource, partition: int, bits: int, wants: Callable[[str], bool] | None, known: LastDigests
    ) -> None:
        self._log = log
        self._partition = partition
        self._planner = Planner(bits, wants, known, log.chain)
        self._known = known

    def confirm(self, mark: Mark) -> None:
        """Raise Diverged or DataLoss if the log does not have the mark's event any more."""
        if mark.digest:
            look = DigestProbe(mark.agent, mark.seq)
            self._fetch([look])
            _confirm(mark, look)

    def plan(self, page: FeedPage, mark: Mark) -> Plan:
        """For a window of the entries behind `mark`, or the first of them. What is before them was loaded."""
        return self._planner.plan(page, mark)

    def load(self, plan: Plan, given: Sequence[SpanEvents | None] = ()) -> Window:
        """The planned window. `given` is what was found already of the spans of its jobs. Raises as `confirm`.

        Where their events are too many, those at the end are not ready; one at least is.
        """
        size = 0
        for job, stretch in zip(plan.jobs, given, strict=False):
            if stretch is not None and not _waits(job):
                size += sum(map(len, stretch.items))
                job.take(stretch, cut=False)
        size += self._fetch([job for job in plan.jobs if not job.done])
        if plan.here is not None:
            _confirm(plan.mark, plan.here)
        for run in plan.runs:
            self._conclude(run)
        window = Window(len(plan.seqs), plan.end, plan.places, size=size)
        there = plan.there
        if there.digest is not None:
            window.last = (there.agent, there.seq, there.digest)
            self._known.note(*window.last)
        _assemble(window, plan)
        return window

    def _fetch(self, jobs: Sequence[Job]) -> int:
        """Ask for what the jobs want, in their order, until they are done or a window is full; how many bytes came."""
        size = count = at = 0
        while at < len(jobs) and size < _WINDOW_BYTES and count < _FETCHED:
            spans: list[Span] = []
            events = 0
            for job in jobs[at : at + _CALL_SPANS]:
                spans.append(job.span())
                events += spans[-1].count
                if events >= MOST_IN_CALL:
                    break
            found = self._log.gather(self._partition, spans, _CALL_BYTES)
            bytes_ = sum(len(item) for stretch in found for item in stretch.items)
            size += bytes_
            count += sum(len(stretch.items) for stretch in found)
            for number, stretch in enumerate(found, 1):
                jobs[at].take(stretch, cut=bytes_ >= _CALL_BYTES and number == len(found))
                at += jobs[at].done
        return size

    def _conclude(self, run: FeedSlice) -> None:
        """Remember where a run ends, or find out why it does not hold together with what was read before."""
        if run.bodies:
            self._known.note(run.agent, run.first_seq + len(run.bodies) - 1, run.digests[-1])
        elif isinstance(run.problem, CorruptEvent) and run.look is None and run.first_seq > 1:
            self.confirm(Mark(0, 0, run.agent, run.first_seq - 1, run.before or b""))


def _waits(job: Job) -> bool:
    """Whether a run has to know first which digest it continues."""
    return isinstance(job, FeedSlice) and job.look is not None and not job.look.done


def _assemble(window: Window, plan: Plan) -> None:
    """Put what the runs have in the order in which it was committed, up to the first event that is not ready."""
    window.agents, window.seqs = plan.agents, plan.seqs
    whole = all(run.whole for run in plan.runs)
    if whole and plan.straight:
        window.bodies = _in_turns(window.agents, {run.agent: iter(run.bodies) for run in plan.runs})
        window.digests = _in_turns(window.agents, {run.agent: iter(run.digests) for run in plan.runs})
        return
    order = plan.order
    if not whole:
        ready = _cut(window, order)
        del order[ready:], window.agents[ready:], window.seqs[ready:]
    places = [seq - run.first_seq for run, seq in zip(order, window.seqs, strict=True)]
    window.bodies = [run.bodies[place] for run, place in zip(order, places, strict=True)]
    window.digests = [run.digests[place] for run, place in zip(order, places, strict=True)]


def _in_turns(agents: Sequence[str], parts: dict[str, Iterator[bytes]]) -> list[bytes]:
    return list(map(next, map(parts.__getitem__, agents)))


def _cut(window: Window, order: Sequence[FeedSlice]) -> int:
    """How many events are ready; notes what is wrong with the one behind them."""
    for number, (run, seq) in enumerate(zip(order, window.seqs, strict=True)):
        place = seq - run.first_seq
        if place >= len(run.bodies):
            # If it is one before this that is wrong, which nobody wants, a window that begins here is right.
            window.problem = run.problem if place == len(run.bodies) else None
            return number
    return len(order)


def _confirm(mark: Mark, look: DigestProbe) -> None:
    if look.head < mark.seq:
        raise DataLoss(
            f"event {mark.seq} of {mark.agent} was read here, but the log does not have it any more: the server lost "
            "what it had acknowledged; start again from the beginning, or from a view that is older than the loss",
            agent=mark.agent,
            seq=mark.seq,
            expected=mark.seq,
            actual=max(0, look.head),
        )
    if look.digest is not None and look.digest != mark.digest:  # a trimmed one can not be compared any more
        raise Diverged(
            f"event {mark.seq} of {mark.agent} is another than the one read here: the log was replaced, restored or "
            "failed over; start again from the beginning",
            agent=mark.agent,
            seq=mark.seq,
            expected=mark.digest.hex(),
            actual=look.digest.hex(),
        )
