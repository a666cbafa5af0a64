"""What has to be fetched to hand out some entries of a feed, and in which order it is handed out."""

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

__all__ = ["Places", "Plan", "Planner"]

_MOST_PLANNED: Final = 20_000
"""Wanted events in one window, unless one entry has more."""
_GAP: Final = 8
"""So many events that nobody wants are read along: a part more would cost as much."""


@define(eq=False)
class Places:
    """The reader's place behind each wanted event, by its number.

    Entries of one event each, all wanted, need no list: `ends` is None. Else it tells of each wanted entry how many
    wanted events there are up to its end, and `entries` how many entries are before it; None where all are wanted.
    """

    position: int
    offset: int = 0
    ends: list[int] | None = None
    entries: list[int] | None = None

    def behind(self, number: int) -> tuple[int, int]:
        """Position and offset of a mark there."""
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
    """The wanted events of some entries behind a mark, in commit order: an element of `agents` and `seqs` each.

    Lists, not a list of objects: a million small ones would keep the collector busy.
    """

    mark: Mark
    end: int
    """Position behind all entries."""
    there: DigestProbe
    """At the last event before that position, whether it is wanted or not."""
    places: Places
    agents: list[str] = field(factory=list[str])
    seqs: list[int] = field(factory=list[int])
    straight: bool = True
    """Whether each agent has one run, and all of it is wanted: then its events come in the order of the run."""
    here: DigestProbe | None = None
    """At the mark's event."""
    jobs: list[Job] = field(factory=list[Job])
    """What to ask the log for, in this order."""
    runs: list[FeedSlice] = field(factory=list[FeedSlice])
    _order: list[FeedSlice] = field(factory=list[FeedSlice])

    @property
    def order(self) -> list[FeedSlice]:
        """The run of each event."""
        if self._order:
            return self._order
        by_agent = {run.agent: run for run in self.runs}
        return [by_agent[agent] for agent in self.agents]


@define(eq=False)
class Planner:
    """Plans windows for one reader: as few runs as there can be.

    Wanted are events of agents that `wants` says yes to, in entries that have one of the levels in `bits`.
    """

    bits: int
    wants: Callable[[str], bool] | None
    known: LastDigests
    chain: DigestChain

    def plan(self, page: FeedPage, mark: Mark) -> Plan:
        """Of the entries behind `mark`, or the first of them."""
        quick = self._quickly(page.fields, mark) if self.wants is None and not mark.offset else None
        plan = quick or self._plan(page.rows, mark)
        if mark.digest:
            plan.here = DigestProbe(mark.agent, mark.seq)
            plan.jobs.append(plan.here)
        plan.jobs.append(plan.there)
        for run in plan.runs:
            if run.before is None:
                run.look = DigestProbe(run.agent, run.first_seq - 1)
                plan.jobs.append(run.look)
            plan.jobs.append(run)
        return plan

    def _run(self, agent: str, first_seq: int, stop: int) -> FeedSlice:
        return FeedSlice(self.chain, agent, first_seq, stop, self.known.before(agent, first_seq))

    def _quickly(self, fields: list[Any], mark: Mark) -> Plan | None:
        """The plan where all entries are wanted, in a few steps for all of them; None where it has to be another."""
        agents, firsts, counts, levels = fields[::4], fields[1::4], fields[2::4], fields[3::4]
        if sum(counts) > _MOST_PLANNED or not all(level & self.bits for level in set(levels)):
            return None
        entries = len(agents)
        stops: list[int] = list(map(add, firsts, counts))
        begins = dict(zip(reversed(agents), reversed(firsts), strict=True))
        runs = {
            agent: self._run(agent, begins[agent], stop)
            for agent, stop in dict(zip(agents, stops, strict=True)).items()
        }
        there = DigestProbe(agents[-1], stops[-1] - 1)
        plain = counts.count(1) == entries
        ends = range(1, entries + 1) if plain else list(accumulate(counts))
        if not plain:
            agents = list(chain.from_iterable(map(repeat, agents, counts)))
        due = {agent: iter(range(run.first_seq, run.stop)) for agent, run in runs.items()}
        seqs = list(map(next, map(due.__getitem__, agents)))
        # Each agent's entries are its events one after the other, or the feed is not as it should be.
        wanted = sum([run.stop - run.first_seq for run in runs.values()])
        if not wanted == len(agents) == len(seqs) or [seqs[end - 1] + 1 for end in ends] != stops:
            return None
        return Plan(
            mark=mark,
            end=mark.position + entries,
            there=there,
            places=Places(mark.position, ends=None if plain else list(ends)),
            agents=agents,
            seqs=seqs,
            runs=list(runs.values()),
        )

    def _plan(self, rows: Sequence[FeedRow], mark: Mark) -> Plan:
        wanted = _Asked(self.wants)
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
                run = latest.get(agent)
                if run is not None and run.stop <= first <= run.stop + _GAP:
                    plan.straight = plan.straight and run.stop == first
                    run.stop = stop
                else:
                    plan.straight = plan.straight and run is None
                    run = latest[agent] = self._run(agent, start, stop)
                    plan.runs.append(run)
                order += [run] * (stop - start)
                seqs += range(start, stop)
                ends.append(len(order))
                entries.append(entry)
            done = 0
            entry += 1
        agent, first, count, _ = rows[entry - 1]
        plan.end, plan.there = mark.position + entry, DigestProbe(agent, first + count - 1)
        plan.places = Places(mark.position, mark.offset, ends, entries)
        return evolve(plan, agents=[run.agent for run in order], order=order)


class _Asked(dict[str, bool]):
    """Who is wanted, asked once for each agent of a window."""

    def __init__(self, wants: Callable[[str], bool] | None) -> None:
        super().__init__()
        self._wants = wants

    def __missing__(self, agent: str) -> bool:
        self[agent] = answer = self._wants is None or bool(self._wants(agent))
        return answer
