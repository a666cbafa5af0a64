"""A part of a feed with the events it names, fetched agent by agent and put in commit order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import define, field

from ..codec import DIGEST_SIZE, NO_DIGEST, broken_chain_error
from ..errors import CorruptEvent, DataLoss, Diverged, DuramenError
from ..log import FeedPage, FeedSource, Span, SpanEvents
from ..model import Mark
from .last_digests import LastDigests
from .slice import MOST_IN_CALL, DigestProbe, FeedSlice, Job
from .window_plan import Places, Plan, Planner

_WINDOW_BYTES: Final = 16 * 1024 * 1024
"""Of events in one window, which is cut short there."""
_FETCHED: Final = 32_768
_CALL_BYTES: Final = 1024 * 1024
_CALL_SPANS: Final = 500


class EntriesOutdated(Exception):
    """Agents were erased after the entries of a window were read, and before its events were: read both again."""


@define(eq=False)
class Window:
    """The wanted events of some entries after a mark, in commit order: an element of each of the four lists.

    Their chains of digests hold. The lists end before the first event that cannot be returned.
    """

    count: int
    """Wanted events."""
    end: int
    """The feed position after all entries."""
    places: Places
    agents: list[str] = field(factory=list[str])
    seqs: list[int] = field(factory=list[int])
    bodies: list[bytes] = field(factory=list[bytes])
    digests: list[bytes] = field(factory=list[bytes])
    problem: DuramenError | None = None
    """What is wrong with the event after them. None although there are more: the window was cut short."""
    last: tuple[str, int, bytes] | None = None
    """The last event before `end`, whether it is wanted or not; None where it was trimmed, or erased."""
    erased_before: bool = False
    """Whether the event of the mark that the window follows was of an agent that had been erased."""
    size: int = 0
    """Bytes of the events."""

    @property
    def ready(self) -> int:
        """Events that can be returned."""
        return len(self.bodies)

    def mark(self, number: int) -> Mark:
        """The reader's place after that event."""
        position, offset = self.places.after(number)
        return Mark(position, offset, self.agents[number], self.seqs[number], self.digests[number])

    def end_mark(self, before: Mark) -> Mark:
        """The reader's place after all entries, where it stood at `before`.

        An event that was erased earlier does not stay in it: at a later position it would look like one that was lost.
        """
        if self.last is None and self.erased_before and not self.ready:
            return Mark(self.end)
        return Mark(self.end, 0, *(self.last or (before.agent, before.seq, before.digest)))


class Windows:
    """Fetches windows of one partition for one reader, and notes the last digest of each agent in `known`.

    It fetches events of agents that `wants` accepts, in entries that have one of the levels in `bits`.
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
            probe = DigestProbe(mark.agent, mark.seq)
            self._fetch([probe], None)
            self._check(mark, probe)

    def plan(self, page: FeedPage, mark: Mark) -> Plan:
        """The plan of a window of the entries after `mark`, or the first of them; those before them were loaded."""
        return self._planner.plan(page, mark)

    def load(self, plan: Plan, provided: Sequence[SpanEvents | None] = ()) -> Window:
        """The planned window. `provided` has what was found already of its jobs' spans. Raises as `confirm`.

        Where their events are too many, those at the end are not ready; one at least is.
        """
        size = 0
        for job, found in zip(plan.jobs, provided, strict=False):
            if found is not None and found.erasures != plan.erasures:
                raise EntriesOutdated
            if found is not None and not _waits(job):
                size += sum(map(len, found.items))
                job.accept(found, cut=False)
        size += self._fetch([job for job in plan.jobs if not job.done], plan.erasures)
        erased_before = plan.here is not None and not self._check(plan.mark, plan.here)
        for piece in plan.slices:
            self._conclude(piece)
        window = Window(len(plan.seqs), plan.end, plan.places, size=size, erased_before=erased_before)
        there = plan.there
        if there.digest is not None:
            window.last = (there.agent, there.seq, there.digest)
            self._known.note(*window.last)
        _assemble(window, plan)
        return window

    def _check(self, mark: Mark, probe: DigestProbe) -> bool:
        """Whether the log has the mark's event; False: its agent was erased since.

        Raises what is wrong where the log has neither it nor an erasure: CorruptEvent if it is damaged.
        """
        try:
            check_mark(mark, probe.head, probe.digest)
        except (DataLoss, Diverged) as error:
            if is_erased(self._log, self._partition, mark):
                return False
            if isinstance(error, DataLoss):
                raise
            spans = [Span(mark.agent, mark.seq - 1, 0), Span(mark.agent, mark.seq, 1)]
            before, there = self._log.gather(self._partition, spans, _CALL_BYTES)
            previous = before.items[:1] or ([NO_DIGEST] if mark.seq == 1 else [])
            if previous and there.items and there.first_seq == mark.seq:
                item = there.items[0]
                expected = self._log.chain.digest(previous[0], item[DIGEST_SIZE:])
                if expected != item[:DIGEST_SIZE]:
                    raise broken_chain_error(mark.agent, mark.seq, expected, item[:DIGEST_SIZE]) from None
            raise
        return True

    def _fetch(self, jobs: Sequence[Job], erasures: int | None) -> int:
        """Fetch the spans of the jobs, in order, until they are done or a window is full; returns the bytes fetched.

        Raises EntriesOutdated where agents were erased since `erasures` was read.
        """
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
            if erasures is not None and any(one.erasures != erasures for one in found):
                raise EntriesOutdated
            bytes_ = sum(len(item) for one in found for item in one.items)
            size += bytes_
            count += sum(len(one.items) for one in found)
            for number, one in enumerate(found, 1):
                jobs[at].accept(one, cut=bytes_ >= _CALL_BYTES and number == len(found))
                at += jobs[at].done
        return size

    def _conclude(self, piece: FeedSlice) -> None:
        """Note where a slice ends, or find out why it does not continue what was read before."""
        if piece.bodies:
            self._known.note(piece.agent, piece.first_seq + len(piece.bodies) - 1, piece.digests[-1])
        elif isinstance(piece.problem, CorruptEvent) and piece.probe is None and piece.first_seq > 1:
            self.confirm(Mark(0, 0, piece.agent, piece.first_seq - 1, piece.previous or b""))


def _waits(job: Job) -> bool:
    """Whether a slice needs the digest that it continues first."""
    return isinstance(job, FeedSlice) and job.probe is not None and not job.probe.done


def _assemble(window: Window, plan: Plan) -> None:
    """Put the events of the slices in commit order, up to the first event that is not ready."""
    window.agents, window.seqs = plan.agents, plan.seqs
    whole = all(piece.whole for piece in plan.slices)
    if whole and plan.straight:
        window.bodies = _in_turns(window.agents, {piece.agent: iter(piece.bodies) for piece in plan.slices})
        window.digests = _in_turns(window.agents, {piece.agent: iter(piece.digests) for piece in plan.slices})
        return
    order = plan.order
    if not whole:
        ready = _cut(window, order)
        del order[ready:], window.agents[ready:], window.seqs[ready:]
    places = [seq - piece.first_seq for piece, seq in zip(order, window.seqs, strict=True)]
    window.bodies = [piece.bodies[place] for piece, place in zip(order, places, strict=True)]
    window.digests = [piece.digests[place] for piece, place in zip(order, places, strict=True)]


def _in_turns(agents: Sequence[str], parts: dict[str, Iterator[bytes]]) -> list[bytes]:
    return list(map(next, map(parts.__getitem__, agents)))


def _cut(window: Window, order: Sequence[FeedSlice]) -> int:
    """How many events are ready; sets the window's problem to that of the next one."""
    for number, (piece, seq) in enumerate(zip(order, window.seqs, strict=True)):
        place = seq - piece.first_seq
        if place >= len(piece.bodies):
            # Where an unwanted event before this one is damaged, a window that begins at this one is sound.
            window.problem = piece.problem if place == len(piece.bodies) else None
            return number
    return len(order)


def is_erased(log: FeedSource, partition: int, mark: Mark) -> bool:
    """Whether the agent of the mark's event was erased after that event. Asks the log."""
    return log.erased_until(partition, mark.agent) >= mark.position + (mark.offset > 0)


def check_mark(mark: Mark, head: int, digest: bytes | None) -> None:
    """Raise DataLoss or Diverged if the log, with this head and this digest at the mark's seq, is not what was read."""
    if head < mark.seq:
        raise DataLoss(
            f"event {mark.seq} of {mark.agent} was read here, but the log does not have it any more: the server lost "
            "what it had acknowledged; start again from the beginning, or from a view that is older than the loss",
            agent=mark.agent,
            seq=mark.seq,
            expected=mark.seq,
            actual=max(0, head),
        )
    if digest is not None and digest != mark.digest:  # a trimmed one cannot be compared any more
        raise Diverged(
            f"event {mark.seq} of {mark.agent} is another than the one read here: the log was replaced, restored or "
            "failed over; start again from the beginning",
            agent=mark.agent,
            seq=mark.seq,
            expected=mark.digest.hex(),
            actual=digest.hex(),
        )
