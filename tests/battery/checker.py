"""Whether a recorded history of operations and the logs at its end fit together. Pure.

The invariants are those of the fault cases: every acknowledged command's events are in the log exactly once, in the
order of its caller's acknowledgements (I2); one that was not acknowledged is there wholly once, or not at all (I3);
the state is the fold of the log (I4); a read shows all that was acknowledged before it was called.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import define, field, frozen

from battery.history import Operation

__all__ = ["AgentLog", "check_agent", "check_fences", "check_state"]

_APPENDS = ("append", "batch", "work", "lone_work")


@frozen
class Fact:
    """One event that concerns the battery: where it stands, and what it adds."""

    seq: int
    path: str
    values: tuple[Any, ...]


@define
class AgentLog:
    """An agent's events in order, made of what is stored, and where each written value stands."""

    facts: list[Fact]
    places: dict[str, list[Fact]] = field(init=False)
    _done_at: list[int] = field(init=False)
    """The seq of each value of `done`."""

    def __attrs_post_init__(self) -> None:
        self.places = defaultdict(list)
        self._done_at = [fact.seq for fact in self.facts if fact.path == "done" for _ in fact.values]
        for fact in self.facts:
            for value in fact.values:
                self.places[str(value)].append(fact)

    @classmethod
    def of(cls, events: Iterable[Any]) -> AgentLog:
        """`events` have seq, type and data, as stored."""
        facts: list[Fact] = []
        for event in events:
            if event.type == "memory_set":
                facts.append(Fact(event.seq, str(event.data["path"]), (event.data["value"],)))
            elif event.type == "memory_appended":
                facts.append(Fact(event.seq, str(event.data["path"]), tuple(event.data["values"])))
        return cls(facts)

    def done_before(self, seq: int) -> int:
        """How many values `done` had before an event."""
        return bisect_left(self._done_at, seq)

    def fold(self) -> dict[str, Any]:
        memory: dict[str, Any] = {"l": [], "done": []}
        for fact in self.facts:
            if fact.path in ("l", "done"):
                memory[fact.path].extend(fact.values)
            else:
                memory[fact.path] = fact.values[-1]
        return memory


def check_agent(agent: str, log: AgentLog, operations: Sequence[Operation]) -> list[str]:
    """What is wrong with the operations on one agent; `operations` are in the order of their calls."""
    problems: list[str] = []
    for one in operations:
        if one.kind != "get":
            problems += _check_write(one, log)
    problems += _check_order(log, operations)
    problems += _check_reads(log, operations)
    known = {part for one in operations for part in _parts(one)}
    problems += [f"{value} is in the log, and nobody has sent it" for value in log.places if value not in known]
    return [f"{agent}: {problem}" for problem in problems]


def _parts(one: Operation) -> list[str]:
    return [f"{one.name}/{part}" for part in range(3)] if one.kind == "batch" else [one.name]


def _check_write(one: Operation, log: AgentLog) -> list[str]:
    places = [log.places.get(part, []) for part in _parts(one)]
    counts = [len(found) for found in places]
    if max(counts) > 1:
        return [f"{one.kind} {one.name} is in the log {max(counts)} times: {[fact.seq for fact in places[0]]}"]
    if len(set(counts)) > 1:
        return [f"{one.kind} {one.name} is in the log in part: {counts}"]
    if not counts[0]:
        return [f"{one.kind} {one.name} was acknowledged, and is not in the log"] if one.is_acknowledged else []
    if one.error == "Fenced":
        return [f"{one.kind} {one.name} was done by a host that was fenced, and is in the log at {places[0][0].seq}"]
    seqs = [found[0].seq for found in places]
    if seqs != list(range(seqs[0], seqs[0] + len(seqs))):
        return [f"{one.kind} {one.name} is torn: seqs {seqs}"]
    if one.is_acknowledged and one.kind in ("set", "append", "batch") and one.result != [seqs[0], seqs[-1]]:
        return [f"{one.kind} {one.name} has the receipt {one.result}, and stands at {seqs}"]
    if one.is_acknowledged and one.kind in ("work", "lone_work"):
        before = log.done_before(seqs[0])
        if one.result != before:
            return [f"{one.kind} {one.name} got the reply {one.result}, and its first one was {before}"]
    return []


def _check_order(log: AgentLog, operations: Sequence[Operation]) -> list[str]:
    """A caller sends its next operation when it has the outcome of the one before."""
    problems: list[str] = []
    last: dict[str, tuple[int, str]] = {}
    for one in operations:
        found = log.places.get(_parts(one)[0], ()) if one.kind != "get" else ()
        if not found or not one.is_acknowledged:
            continue
        seq, before = found[0].seq, last.get(one.caller, (0, ""))
        if seq < before[0]:
            problems.append(
                f"{one.name} stands at {seq}, before {before[1]} at {before[0]}, which was acknowledged first"
            )
        last[one.caller] = (seq, one.name)
    return problems


def _check_reads(log: AgentLog, operations: Sequence[Operation]) -> list[str]:
    """A read shows a state that there was, and not one from before what was acknowledged when it was called."""
    acknowledged = sorted(
        (one.ended or 0.0, log.places[part][0].seq)
        for one in operations
        if one.is_acknowledged and one.kind != "get"
        for part in _parts(one)[-1:]
        if part in log.places
    )
    times = [at for at, _ in acknowledged]
    latest: list[int] = []
    for _, seq in acknowledged:
        latest.append(max(seq, latest[-1] if latest else 0))
    lengths = _lengths(log)
    problems: list[str] = []
    for one in operations:
        if one.kind != "get" or not one.is_acknowledged:
            continue
        known = bisect_right(times, one.called)
        least = latest[known - 1] if known else 0
        first, last = lengths.get((one.result[0], one.result[1]), (1, 0))
        if first > last:
            problems.append(f"get {one.name} saw {one.result[:2]} values, which there never were at one moment")
        elif last < least:
            problems.append(
                f"get {one.name} saw the state of {last} at most; {least} was acknowledged before it was called"
            )
        else:
            for value in one.result[2].values():
                found = log.places.get(value)
                if not found or found[0].seq > last:
                    problems.append(
                        f"get {one.name} saw {value}, and not what stands before it, or it is not in the log"
                    )
    return problems


def _lengths(log: AgentLog) -> Mapping[tuple[int, int], tuple[int, int]]:
    """By the lengths of both lists: between which seqs a state has them."""
    counts: Counter[str] = Counter()
    found: dict[tuple[int, int], tuple[int, int]] = {}
    begun, before = 1, (0, 0)
    for fact in log.facts:
        counts[fact.path] += len(fact.values)
        now = (counts["l"], counts["done"])
        if now != before:
            found[before] = (begun, fact.seq - 1)
            begun, before = fact.seq, now
    found[before] = (begun, 1 << 62)
    return found


def check_state(agent: str, log: AgentLog, memory: Mapping[str, Any]) -> list[str]:
    """Compare what a fresh process reads with the fold of the log."""
    folded = log.fold()
    wrong = [key for key in {*folded, *memory} if folded.get(key) != memory.get(key)]
    return [f"{agent}: {key} is {memory.get(key)!r:.80}, and the log says {folded.get(key)!r:.80}" for key in wrong]


def check_fences(agent: str, seen: Sequence[tuple[str, int]]) -> list[str]:
    """Check fences `epoch:host` and seqs that one agent's head had, in the order in which they were seen."""
    problems: list[str] = []
    for (old, before), (new, after) in pairwise(seen):
        if int(new.partition(":")[0]) < int(old.partition(":")[0]):
            problems.append(f"{agent}: the fence {new} came after {old}")
        if new != old and new.partition(":")[0] == old.partition(":")[0]:
            problems.append(f"{agent}: one epoch has two hosts, {old} and {new}")
        if after < before:
            problems.append(f"{agent}: the log went back from {before} to {after}")
    return problems
