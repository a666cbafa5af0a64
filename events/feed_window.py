"""A part of a feed with the events it names, fetched agent by agent, to be handed out in commit order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from .chain import Chain
from .codec import DIGEST_SIZE, NO_DIGEST
from .cursor import Mark
from .errors import CorruptEvent, DataLoss, Diverged, DuramenError, Trimmed
from .last_digests import LastDigests
from .log import EventLog, FeedRow, Span, Stretch
from .stored import broken_chain

__all__ = ["Run", "Window", "Windows"]

_WINDOW_BYTES: Final = 16 * 1024 * 1024
"""Of events in one window: beyond these it is cut short."""
_WINDOW_EVENTS: Final = 16_384
"""Wanted ones in one window, unless one entry has more."""
_FETCHED: Final = 32_768
# One call keeps the server from serving others; this many events take it less than a millisecond.
_CALL_BYTES: Final = 1024 * 1024
_CALL_EVENTS: Final = 2_000
_CALL_SPANS: Final = 500
_GAP: Final = 8
"""So many events that nobody wants are read along: a part more would cost as much."""


@define(eq=False)
class _Look:
    """The digest of one event, as the log has it now; None if it is not there, or was trimmed."""

    agent: str
    seq: int
    digest: bytes | None = None
    head: int = 0
    done: bool = False

    def span(self) -> Span:
        return Span(self.agent, self.seq, 0)

    def take(self, stretch: Stretch, *, cut: bool) -> None:
        self.digest = stretch.items[0] if stretch.items else None
        self.head = stretch.head
        self.done = True


@define(eq=False)
class Run:
    """Consecutive events of one agent. Those whose chain of digests holds are ready, from `first_seq` on."""

    chain: Chain
    agent: str
    first_seq: int
    stop: int
    """Behind the last seq that is wanted."""
    before: bytes | None
    """The digest before the first event, as it was read earlier; None: it has to be looked at."""
    look: _Look | None = None
    digests: list[bytes] = field(factory=list[bytes])
    bodies: list[bytes] = field(factory=list[bytes])
    problem: DuramenError | None = None
    """Why what follows is not ready. None though something is missing: the window was cut short."""

    @property
    def done(self) -> bool:
        return self.problem is not None or self.first_seq + len(self.bodies) >= self.stop

    def span(self) -> Span:
        seq = self.first_seq + len(self.bodies)
        return Span(self.agent, seq, min(self.stop - seq, _CALL_EVENTS))

    def take(self, stretch: Stretch, *, cut: bool) -> None:
        asked = self.span()
        if stretch.base >= 0 and stretch.first_seq > asked.from_seq:
            self.problem = _trimmed(asked, stretch)
            return
        looked = None if self.look is None else self.look.digest
        previous = self.digests[-1] if self.digests else self.before or looked
        self._add(previous, stretch.items)
        if self.problem is None and not cut and len(stretch.items) < asked.count:
            self.problem = _missing(self, stretch)

    def _add(self, previous: bytes | None, items: Sequence[bytes]) -> None:
        """Add what continues the chain.

        Where the digest before the first one is gone it is believed, unless there is a key: then nothing is.
        """
        if previous is None and items and not self.chain.keyed:
            previous, items = self._trust(items[0]), items[1:]
        followed = self.chain.follow(previous or NO_DIGEST, items)
        if followed is not None:
            self.digests += followed[0]
            self.bodies += followed[1]
            return
        for item in items:
            expected = self.chain.digest(previous or NO_DIGEST, item[DIGEST_SIZE:])
            if item[:DIGEST_SIZE] != expected:
                seq = self.first_seq + len(self.bodies)
                self.problem = broken_chain(self.agent, seq, expected, item[:DIGEST_SIZE])
                return
            previous = self._trust(item)

    def _trust(self, item: bytes) -> bytes:
        self.digests.append(item[:DIGEST_SIZE])
        self.bodies.append(item[DIGEST_SIZE:])
        return item[:DIGEST_SIZE]


@define(eq=False)
class Window:
    """The wanted events of some entries behind a mark, in commit order: an element of each of the first four lists.

    Lists, not a list of objects: a million small ones would keep the collector busy.
    """

    runs: list[Run] = field(factory=list[Run])
    places: list[int] = field(factory=list[int])
    """Of the event in its run."""
    positions: list[int] = field(factory=list[int])
    offsets: list[int] = field(factory=list[int])
    """With `positions`: the reader's place behind the event, as a mark has it."""
    ready: int = 0
    """How many of the events can be handed out."""
    problem: DuramenError | None = None
    """What is wrong with the one behind them. None though there are more: the window was cut short."""
    end: int = 0
    """Position behind all entries."""
    last: tuple[str, int, bytes] | None = None
    """The last event before that position, whether it is wanted or not; None where it was trimmed."""
    size: int = 0
    """Bytes of the events."""


class Windows:
    """Fetches windows of one partition for one reader, and notes the last digest of each agent in `known`.

    Wanted are events of agents that `wants` says yes to, in entries that have one of the levels whose bits are given.
    """

    def __init__(
        self, log: EventLog, partition: int, bits: int, wants: Callable[[str], bool] | None, known: LastDigests
    ) -> None:
        self._log = log
        self._partition = partition
        self._bits = bits
        self._wants = wants
        self._known = known

    def confirm(self, mark: Mark) -> None:
        """Raise Diverged or DataLoss if the log does not have the mark's event any more."""
        if mark.digest:
            look = _Look(mark.agent, mark.seq)
            self._fetch([look])
            _confirm(mark, look)

    def load(self, rows: Sequence[FeedRow], mark: Mark) -> Window:
        """A window of the entries behind `mark`, or the first of them. Raises as `confirm`.

        Where their events are too many, those at the end are not ready; one at least is.
        """
        window = self._plan(rows, mark)
        here = _Look(mark.agent, mark.seq)
        agent, first, count, _ = rows[window.end - mark.position - 1]
        there = _Look(agent, first + count - 1)
        jobs: list[_Look | Run] = [here, there] if mark.digest else [there]
        runs = list(dict.fromkeys(window.runs))
        for run in runs:
            if run.before is None:
                run.look = _Look(run.agent, run.first_seq - 1)
                jobs.append(run.look)
            jobs.append(run)
        window.size = self._fetch(jobs)
        if mark.digest:
            _confirm(mark, here)
        for run in runs:
            self._conclude(run)
        if there.digest is not None:
            window.last = (there.agent, there.seq, there.digest)
            self._known.note(*window.last)
        window.ready = len(window.runs)
        if any(len(run.bodies) < run.stop - run.first_seq for run in runs):
            _cut(window)
        return window

    def _plan(self, rows: Sequence[FeedRow], mark: Mark) -> Window:
        """What to hand out, and the runs to fetch for it, as few as there can be."""
        window = Window()
        runs, places, positions, offsets = window.runs, window.places, window.positions, window.offsets
        bits, wanted, chain = self._bits, _Asked(self._wants), self._log.chain
        latest: dict[str, Run] = {}
        position, done = mark.position, mark.offset
        for agent, first, count, levels in rows:
            if levels & bits and wanted[agent]:
                if len(runs) + count > _WINDOW_EVENTS and position > mark.position:
                    break
                run = latest.get(agent)
                if run is not None and run.stop <= first <= run.stop + _GAP:
                    run.stop = first + count
                else:
                    seq = first + done
                    run = latest[agent] = Run(chain, agent, seq, first + count, self._known.before(agent, seq))
                place = first + done - run.first_seq
                if count - done > 1:
                    runs += [run] * (count - done - 1)
                    places += range(place, place + count - done - 1)
                    positions += [position] * (count - done - 1)
                    offsets += range(done + 1, count)
                    place += count - done - 1
                runs.append(run)
                places.append(place)
                positions.append(position + 1)
                offsets.append(0)
            done = 0
            position += 1
        window.end = position
        return window

    def _fetch(self, jobs: Sequence[_Look | Run]) -> int:
        """Ask for what the jobs want, in their order, until they are done or a window is full; how many bytes came."""
        size = count = at = 0
        while at < len(jobs) and size < _WINDOW_BYTES and count < _FETCHED:
            spans: list[Span] = []
            events = 0
            for job in jobs[at : at + _CALL_SPANS]:
                spans.append(job.span())
                events += spans[-1].count
                if events >= _CALL_EVENTS:
                    break
            found = self._log.gather(self._partition, spans, _CALL_BYTES)
            bytes_ = sum(len(item) for stretch in found for item in stretch.items)
            size += bytes_
            count += sum(len(stretch.items) for stretch in found)
            for number, stretch in enumerate(found, 1):
                jobs[at].take(stretch, cut=bytes_ >= _CALL_BYTES and number == len(found))
                at += jobs[at].done
        return size

    def _conclude(self, run: Run) -> None:
        """Remember where a run ends, or find out why it does not hold together with what was read before."""
        if run.bodies:
            self._known.note(run.agent, run.first_seq + len(run.bodies) - 1, run.digests[-1])
        elif isinstance(run.problem, CorruptEvent) and run.look is None and run.first_seq > 1:
            self.confirm(Mark(0, 0, run.agent, run.first_seq - 1, run.before or b""))


class _Asked(dict[str, bool]):
    """Who is wanted, asked once for each agent of a window."""

    def __init__(self, wants: Callable[[str], bool] | None) -> None:
        super().__init__()
        self._wants = wants

    def __missing__(self, agent: str) -> bool:
        self[agent] = answer = self._wants is None or bool(self._wants(agent))
        return answer


def _cut(window: Window) -> None:
    """Find the first event that is not ready, and why."""
    for number, (run, place) in enumerate(zip(window.runs, window.places, strict=True)):
        if place >= len(run.bodies):
            window.ready = number
            # If it is one before this that is wrong, which nobody wants, a window that begins here is right.
            window.problem = run.problem if place == len(run.bodies) else None
            return


def _confirm(mark: Mark, look: _Look) -> None:
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


def _trimmed(asked: Span, stretch: Stretch) -> Trimmed:
    return Trimmed(
        f"events up to {stretch.base} of {asked.agent} were trimmed before they were read here: go on from "
        f"{stretch.base + 1}, or take what came before from a snapshot",
        agent=asked.agent,
        seq=asked.from_seq,
        expected=asked.from_seq,
        actual=stretch.base + 1,
    )


def _missing(run: Run, stretch: Stretch) -> CorruptEvent:
    seq = run.first_seq + len(run.bodies)
    return CorruptEvent(
        f"the feed names event {seq} of {run.agent}, which its log does not have; restore it from a backup",
        agent=run.agent,
        seq=seq,
        expected=run.stop - 1,
        actual=max(0, stretch.head),
    )
