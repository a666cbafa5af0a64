"""An audit of what a partition stores beside the logs: feed, directory and episodes, and of consumers' views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

import msgpack
from duramen.events import CorruptEvent, Granularity, Limits, Trimmed
from duramen.events.codec import Codec
from duramen.events.log import EventLog, RawPartition, Unfinished, unpack_line, unseal

from ..episodes import unpack_record
from ..state import NEVER
from .damage import Kind
from .problem import Problem

_PAGE: Final = 1_000
_TRIES: Final = 5
_FAR: Final = 1 << 40
"""After the end of any list."""
_UNKNOWN: Final = -1


@frozen(eq=False, repr=False)
class AuditedAgent:
    """What the sound log of an agent says about the rest of its partition."""

    seq: int
    entry: bytes
    """Its line in the directory."""
    first: int
    """The seq of the first level."""
    levels: bytes
    """The granularity of each event, a byte each."""
    episodes: frozenset[int]
    """The seqs of its events that record an episode."""
    forked_at: int | None
    """The seq of the event that made it as a fork, if that is there: the feed has none before."""
    due_ms: int | None
    """When its unfinished work is due, as the index has it; None: it has none. -1: not known from its log."""


class _Coverage:
    """The seqs of one agent that the entries of a feed cover, from `first` to before `next`."""

    __slots__ = ("first", "is_broken", "next")

    def __init__(self, first: int) -> None:
        self.first = self.next = first
        self.is_broken = False


class PartitionAudit:
    """The audit of one partition, whose agents were audited before: `audited` has those whose logs are sound."""

    def __init__(self, log: EventLog, partition: int, limits: Limits, audited: Mapping[str, AuditedAgent]) -> None:
        self._log = log
        self._partition = partition
        self._codec = Codec(limits)
        self._audited = audited
        self._problems: list[Problem] = []

    def run(self) -> list[Problem]:
        """Return all problems. Raises what a lost server raises, and nothing for damage."""
        for _ in range(_TRIES):
            self._problems = []
            raw = self._log.archive.raw_partition(self._partition)
            try:
                self._check(raw)
            except Trimmed:  # the feed, by another process
                continue
            # An append or a trim in between looks like damage: audit again until the partition stands still.
            if not self._problems or self._log.archive.raw_partition(self._partition) == raw:
                break
        return self._problems

    def _check(self, raw: RawPartition) -> None:
        if raw.length < 0 or raw.base < 0:
            self._report(Kind.FEED, "a feed", "something else", "its feed is no list, or its base no number")
        else:
            self._check_feed(raw)
        self._check_directory(raw)
        self._check_episodes(raw)
        self._check_unfinished(raw)

    # -- feed ------------------------------------------------------------------------------------------------------

    def _check_feed(self, raw: RawPartition) -> None:
        end, last = raw.base + raw.length, max(raw.marks.values(), default=0)
        if last != end:
            self._report(Kind.FEED, last, end, f"its feed ends at {end}, and the last append is at {last}")
            return
        found: dict[str, _Coverage] = {}
        marks: dict[int, int] = {}
        position = raw.base
        while position < end:
            try:
                rows = self._log.feed_pages([(self._partition, position, min(_PAGE, end - position))])[0].rows
            except CorruptEvent as error:
                self._report(Kind.FEED, "entries", "other bytes", f"its feed is damaged after {position}: {error}")
                return
            if not rows:
                break
            for agent, first, count, levels in rows:
                position += 1
                if agent or levels:  # else of an agent that was erased
                    self._check_entry(found, agent, first, count, levels)
                marks.update((level, position) for level in Granularity if levels & 1 << level)
        self._compare_marks(raw, marks)
        self._compare_heads(raw, found)

    def _check_entry(self, found: dict[str, _Coverage], agent: str, first: int, count: int, levels: int) -> None:
        coverage = found.setdefault(agent, _Coverage(first))
        if coverage.is_broken:
            return
        if first != coverage.next or count < 1:
            coverage.is_broken = True
            self._report(
                Kind.FEED, coverage.next, first, "the feed has other events than come next", agent=agent, seq=first
            )
            return
        coverage.next = first + count
        known = self._audited.get(agent)
        if known is None or first < known.first or first + count > known.first + len(known.levels):
            return
        actual = sum(1 << level for level in set(known.levels[first - known.first : first - known.first + count]))
        if levels != actual:
            self._report(Kind.FEED, actual, levels, "the feed has other levels than its events", agent=agent, seq=first)

    def _compare_marks(self, raw: RawPartition, found: Mapping[int, int]) -> None:
        for level in Granularity:
            # A mark is where the batch ends that has the event; other agents' entries may come after that one.
            expected, actual = found.get(level, 0), raw.marks.get(level, 0)
            if expected > actual:
                why = f"the last {level.name.lower()} event of its feed is at {expected}, after its mark"
                self._report(Kind.FEED, expected, actual, why)

    def _compare_heads(self, raw: RawPartition, found: Mapping[str, _Coverage]) -> None:
        for agent in found.keys() - raw.heads.keys():
            self._report_head(agent)
        for agent, head in raw.heads.items():
            coverage = found.get(agent)
            if head is None or agent not in self._audited or head.seq == head.base or (coverage and coverage.is_broken):
                continue  # damaged, which its own audit has found
            first, last = (coverage.first, coverage.next - 1) if coverage else (head.seq + 1, head.base)
            least = self._audited[agent].forked_at or head.base + 1
            if first > least or last < head.seq:
                seq = least if first > least else last + 1
                expected = [least, head.seq]
                self._report(Kind.FEED, expected, [first, last], "the feed lacks events", agent=agent, seq=seq)

    # -- directory and episodes ------------------------------------------------------------------------------------

    def _check_directory(self, raw: RawPartition) -> None:
        for agent in raw.directory.keys() - raw.heads.keys():
            self._report_head(agent)
        for agent, head in raw.heads.items():
            known, line = self._audited.get(agent), raw.directory.get(agent)
            if head is None or known is None or known.seq != head.seq or _same_line(line, known.entry):
                continue
            what = "missing" if line is None else "another one, or damaged"
            self._report(Kind.DIRECTORY, known.entry, line, f"its line in the directory is {what}", agent=agent)

    def _check_episodes(self, raw: RawPartition) -> None:
        listed: set[tuple[str, int]] = set()
        starts = [_FAR] * self._log.partitions
        starts[self._partition] = 0
        is_complete = self._log.archive.has_all_episodes()
        while page := self._log.archive.episodes(starts)[0][self._partition]:
            for number, stored in enumerate(page, starts[self._partition]):
                try:
                    record = unpack_record(stored, self._codec, self._log.chain)
                except CorruptEvent:
                    self._report(Kind.EPISODE, "an episode", f"{len(stored)} bytes", f"episode {number} is damaged")
                    continue
                if record is None:  # of an agent that was erased
                    continue
                listed.add((record.agent, record.seq))
                known = self._audited.get(record.agent)
                if known and known.first <= record.seq <= known.seq and record.seq not in known.episodes:
                    what = "an episode is listed that no event records"
                    self._report(Kind.EPISODE, None, number, what, agent=record.agent, seq=record.seq)
            starts[self._partition] += len(page)
        for agent, known in self._audited.items() if is_complete else ():
            for seq in sorted(known.episodes):
                if agent in raw.heads and (agent, seq) not in listed:
                    self._report(
                        Kind.EPISODE, seq, None, "the episode of this event is not listed", agent=agent, seq=seq
                    )

    def _check_unfinished(self, raw: RawPartition) -> None:
        """Compare the index of unfinished work with the logs: what it lacks would not be found after a crash."""
        found: dict[str, int] = {}
        last: Unfinished | None = None
        while True:
            page = self._log.hosts.unfinished(self._partition, _PAGE, after=last, until_ms=NEVER)
            found.update((each.agent, each.due_ms) for each in page.agents)
            if len(page.agents) < _PAGE:
                break
            last = page.agents[-1]
        for agent, head in raw.heads.items():
            known, due = self._audited.get(agent), found.get(agent)
            if head is None or known is None or known.seq != head.seq or known.due_ms in (due, _UNKNOWN):
                continue
            if due is None or known.due_ms is None or due > known.due_ms:  # sooner does no harm
                detail = f"the index of unfinished work has it {'not' if due is None else f'at {due} ms'}"
                self._report(Kind.UNFINISHED, known.due_ms, due, detail, agent=agent)

    def _report_head(self, agent: str) -> None:
        """Report an agent that is named somewhere and has no head."""
        if not any(known.agent == agent and known.kind is Kind.HEAD for known in self._problems):
            self._report(Kind.HEAD, "a head", "missing", "its head is missing", agent=agent)

    def _report(
        self, kind: Kind, expected: Any, actual: Any, detail: str, *, agent: str | None = None, seq: int | None = None
    ) -> None:
        name = f"partition {self._partition}" if agent is None else agent
        self._problems.append(Problem(name, seq, kind, expected, actual, detail))


def audit_consumers(log: EventLog) -> list[Problem]:
    """Audit the records of durable consumers, and their views as far as these have a checksum or a form."""
    store, problems = log.consumer_store(), list[Problem]()
    try:
        records = store.records()
    except CorruptEvent as error:
        return [Problem("consumers", None, Kind.VIEW, "a record", "other bytes", str(error))]
    for record in records:
        try:
            if record.kind == "whole":
                stored = store.blob(record.name, record.slot)
                if stored is not None:
                    unseal(stored, record.name)
            elif record.kind == "keyed":
                for _, entry in store.entries(record.name, record.slot):
                    msgpack.unpackb(entry)
        except (CorruptEvent, ValueError, TypeError) as error:
            name, why = f"consumer {record.name}", f"its {record.slot} view is damaged ({type(error).__name__})"
            problems.append(Problem(name, None, Kind.VIEW, "a view", "other bytes", why))
    return problems


def _same_line(line: bytes | None, expected: bytes) -> bool:
    """Whether a line of the directory says the same as the log; which class runs the agent, the log does not know."""
    try:
        if line is None:
            return False
        found, wanted = unpack_line(line), unpack_line(expected)
    except (ValueError, TypeError):
        return False
    same_metadata = found.packed_metadata in (None, wanted.packed_metadata)  # lines had none once
    return same_metadata and found[:3] == wanted[:3]
