"""Which events have to be fetched for some entries of a feed, and in which order they are returned."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, repeat
from operator import add
from typing import Any, Final

from attrs import define, evolve, field

from ..codec import DigestChain
from ..log import FeedPage, FeedRow
from ..model import Mark
from .last_digests import LastDigests
from .slice import DigestProbe, FeedSlice, Job

_MOST_PLANNED: Final = 20_000
"""Wanted events in one window, unless one entry has more."""
_GAP: Final = 8
"""Unwanted events between wanted ones that are read along: a slice more would cost as much."""


@define(eq=False)
class Places:
    """The reader's place after each wanted event, by the number of the event.

    `ends` has, for each wanted entry, the wanted events up to its end; None where every entry has one event and is
    wanted. `entries` has, for each wanted entry, the entries before it; None where all are wanted.
    """

    position: int
    offset: int = 0
    ends: list[int] | None = None
    entries: list[int] | None = None

    def after(self, number: int) -> tuple[int, int]:
        """Position and offset of a mark after that event."""
        ends = self.ends
        if ends is None:
            return self.position + number + 1, 0
        at = bisect_right(ends, number)
        entry = at if self.entries is None else self.entries[at]
        if number + 1 == ends[at]:
            return self.position + entry + 1, 0
        done = self.offset if entry == 0 else 0
        return self.position + entry, done + number - (ends[at - 1] if at else 0) + 1


@define(eq=False)
class Plan:
    """The wanted events of some entries after a mark, in commit order: an element of `agents` and `seqs` each.

    Lists, not a list of objects: a million small ones would keep the garbage collector busy.
    """

    mark: Mark
    end: int
    """The feed position after all entries."""
    there: DigestProbe
    """Probes the last event before that position, whether it is wanted or not."""
    places: Places
    agents: list[str] = field(factory=list[str])
    seqs: list[int] = field(factory=list[int])
    straight: bool = True
    """Whether each agent has one slice, all of it wanted: then its events come in the order of the slice."""
    erasures: int = 0
    """How often entries of the feed had been made nobody's when these were read."""
    here: DigestProbe | None = None
    """Probes the mark's event."""
    jobs: list[Job] = field(factory=list[Job])
    """What to fetch, in this order."""
    slices: list[FeedSlice] = field(factory=list[FeedSlice])
    _order: list[FeedSlice] = field(factory=list[FeedSlice])

    @property
    def order(self) -> list[FeedSlice]:
        """The slice of each event."""
        if self._order:
            return self._order
        by_agent = {piece.agent: piece for piece in self.slices}
        return [by_agent[agent] for agent in self.agents]


@define(eq=False)
class Planner:
    """Plans windows for one reader, with as few slices as possible.

    It plans events of agents that `wants` accepts, in entries that have one of the levels in `bits`.
    """

    bits: int
    wants: Callable[[str], bool] | None
    known: LastDigests
    chain: DigestChain

    def plan(self, page: FeedPage, mark: Mark) -> Plan:
        """The plan of the entries after `mark`, or of the first of them."""
        all_wanted = self._plan_all(page.fields, mark) if self.wants is None and not mark.offset else None
        plan = all_wanted or self._plan(page.rows, mark)
        plan.erasures = page.erasures
        if mark.digest:
            plan.here = DigestProbe(mark.agent, mark.seq)
            plan.jobs.append(plan.here)
        plan.jobs.append(plan.there)
        for piece in plan.slices:
            if piece.previous is None:
                piece.probe = DigestProbe(piece.agent, piece.first_seq - 1)
                plan.jobs.append(piece.probe)
            plan.jobs.append(piece)
        return plan

    def _slice(self, agent: str, first_seq: int, stop: int) -> FeedSlice:
        return FeedSlice(self.chain, agent, first_seq, stop, self.known.digest_before(agent, first_seq))

    def _plan_all(self, fields: list[Any], mark: Mark) -> Plan | None:
        """The plan where all entries are wanted, in a few steps for all of them; None where that is not possible."""
        agents, firsts, counts, levels = fields[::4], fields[1::4], fields[2::4], fields[3::4]
        if sum(counts) > _MOST_PLANNED or not all(level & self.bits for level in set(levels)):
            return None
        entries = len(agents)
        stops: list[int] = list(map(add, firsts, counts))
        begins = dict(zip(reversed(agents), reversed(firsts), strict=True))
        slices = {
            agent: self._slice(agent, begins[agent], stop)
            for agent, stop in dict(zip(agents, stops, strict=True)).items()
        }
        there = DigestProbe(agents[-1], stops[-1] - 1)
        plain = counts.count(1) == entries
        ends = range(1, entries + 1) if plain else list(accumulate(counts))
        if not plain:
            agents = list(chain.from_iterable(map(repeat, agents, counts)))
        due = {agent: iter(range(piece.first_seq, piece.stop)) for agent, piece in slices.items()}
        seqs = list(map(next, map(due.__getitem__, agents)))
        # In a sound feed each agent's entries are its events one after the other.
        wanted = sum([piece.stop - piece.first_seq for piece in slices.values()])
        if not wanted == len(agents) == len(seqs) or [seqs[end - 1] + 1 for end in ends] != stops:
            return None
        return Plan(
            mark=mark,
            end=mark.position + entries,
            there=there,
            places=Places(mark.position, ends=None if plain else list(ends)),
            agents=agents,
            seqs=seqs,
            slices=list(slices.values()),
        )

    def _plan(self, rows: Sequence[FeedRow], mark: Mark) -> Plan:
        wanted = _Wanted(self.wants)
        latest: dict[str, FeedSlice] = {}
        plan = Plan(mark=mark, end=mark.position, there=DigestProbe("", 0), places=Places(mark.position))
        order: list[FeedSlice] = []
        seqs = plan.seqs
        ends: list[int] = []
        entries: list[int] = []
        entry, done = 0, mark.offset
        for agent, first, count, levels in rows:
            if levels & self.bits and wanted[agent]:
                if entry and len(order) + count > _MOST_PLANNED:
                    break
                start, stop = first + done, first + count
                piece = latest.get(agent)
                if piece is not None and piece.stop <= first <= piece.stop + _GAP:
                    plan.straight = plan.straight and piece.stop == first
                    piece.stop = stop
                else:
                    plan.straight = plan.straight and piece is None
                    piece = latest[agent] = self._slice(agent, start, stop)
                    plan.slices.append(piece)
                order += [piece] * (stop - start)
                seqs += range(start, stop)
                ends.append(len(order))
                entries.append(entry)
            done = 0
            entry += 1
        agent, first, count, _ = rows[entry - 1]
        plan.end, plan.there = mark.position + entry, DigestProbe(agent, first + count - 1)
        plan.places = Places(mark.position, mark.offset, ends, entries)
        return evolve(plan, agents=[piece.agent for piece in order], order=order)


class _Wanted(dict[str, bool]):
    """Whether an agent is wanted, asked once for each agent of a window."""

    def __init__(self, wants: Callable[[str], bool] | None) -> None:
        super().__init__()
        self._wants = wants

    def __missing__(self, agent: str) -> bool:
        self[agent] = answer = self._wants is None or bool(self._wants(agent))
        return answer
