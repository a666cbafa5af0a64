"""What set each value, read from the first event on: the slow way, without anything that is stored beside a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from duramen.events.codec import RawEvent
from duramen.events.model import MEMORY_RESTORED, PAUSED, RESUMED
from duramen.projections.history.fork import available_origin, rebuild_start
from duramen.projections.recovery import AgentLog, StateFold
from duramen.projections.state import CONTAINERS, OWN_EVENT_TYPES, copy_tree

Path: TypeAlias = tuple[str, ...]
Answer: TypeAlias = tuple[str, int, list[tuple[str, int]]]
"""Agent and seq of the event that set a value, and those that carried it, latest first."""


def answers_of_whole_log(agent_log: AgentLog, to_seq: int) -> dict[Path, Answer]:
    """By the path of each scalar and each empty container at a seq."""
    origin = available_origin(agent_log)
    if origin is not None and to_seq < origin.seq:
        return answers_of_whole_log(agent_log.of(origin.agent), to_seq)
    told = _Told(agent_log, to_seq)
    theirs = {} if origin is None else answers_of_whole_log(agent_log.of(origin.agent), origin.seq)
    return {path: told.answer(mark, theirs) for path, mark in told.marks_by_path().items()}


class _Told:
    """A number in the place of each scalar: a seq, or below zero where `carried` has what carried it, and from where.

    Empty containers are told apart by which object they are, since that moves with a list's elements.
    """

    def __init__(self, agent_log: AgentLog, to_seq: int) -> None:
        self._agent = agent_log.agent
        self._carried: list[tuple[int, int | Path]] = []
        origin = available_origin(agent_log)
        self._values = self._fold_of(agent_log)
        self._marks = self._fold_of(agent_log)
        base = self._values.state.seq

        def first(path: Path, _: Any) -> int:
            return base if origin is None else self._carry(base + 1, path)

        memory = self._marks.state.memory
        self._marks.state.memory = {key: _replaced((key,), held, first) for key, held in memory.items()}
        self._root = first((), None)
        self._empty = {id(held): (held, first(path, None)) for path, held in self._empties()}
        copies: dict[int, dict[Path, int]] = {}
        restored: set[int] = set()
        for seq, raw, digest in agent_log.events_after(self._marks.state, to_seq):
            self._apply(seq, raw, digest)
            if raw[0] == MEMORY_RESTORED:
                restored.add(seq)
            elif raw[0] == PAUSED:
                copies[seq] = self.marks_by_path()
            elif raw[0] == RESUMED:
                self._bring_back(seq, restored, copies.get(raw[4]["checkpoint_seq"], {}))
                restored = set()

    def _fold_of(self, agent_log: AgentLog) -> StateFold:
        start = rebuild_start(agent_log, available_origin(agent_log))
        return StateFold(agent_log.agent, agent_log.limits, None, start)

    def _apply(self, seq: int, raw: RawEvent, digest: bytes) -> None:
        own = OWN_EVENT_TYPES.get(raw[0])
        data: Any = copy_tree(raw[4])
        if own is not None and own.values is not None:
            data[own.values] = own.replace_scalars(data[own.values], seq)
        self._marks.apply([*raw[:4], data, *raw[5:]], digest)
        had_items = bool(self._values.state.memory)
        self._values.apply(raw, digest)
        known = self._empty
        self._empty = {id(held): known.get(id(held), (held, seq)) for _, held in self._empties()}
        if had_items and not self._values.state.memory:
            self._root = seq

    def _empties(self) -> Iterable[tuple[Path, Any]]:
        memory = self._values.state.memory
        return [(path, held) for path, held in leaves_of((), memory) if path and type(held) in CONTAINERS]

    def marks_by_path(self) -> dict[Path, int]:
        memory = self._values.state.memory
        if not memory:
            return {(): self._root}
        found = dict(leaves_of((), self._marks.state.memory))
        return found | {path: self._empty[id(held)][1] for path, held in self._empties()}

    def _bring_back(self, seq: int, restored: set[int], before: dict[Path, int]) -> None:
        def carried(path: Path, mark: Any) -> int:
            if type(mark) is int and mark in restored and path in before:
                return self._carry(seq, before[path])
            return int(mark)

        memory = self._marks.state.memory
        self._marks.state.memory = {key: _replaced((key,), held, carried) for key, held in memory.items()}
        self._empty = {id(held): (held, carried(path, self._empty[id(held)][1])) for path, held in self._empties()}
        self._root = carried((), self._root)

    def _carry(self, by: int, before: int | Path) -> int:
        self._carried.append((by, before))
        return -len(self._carried)

    def answer(self, mark: int, theirs: dict[Path, Answer]) -> Answer:
        carriers: list[tuple[str, int]] = []
        before: int | Path = mark
        while isinstance(before, int) and before < 0:
            by, before = self._carried[-before - 1]
            carriers.append((self._agent, by))
        if isinstance(before, int):
            return self._agent, before, carriers
        agent, seq, more = theirs[before]
        return agent, seq, carriers + more


def _replaced(path: Path, marks: Any, replace: Callable[[Path, Any], int]) -> Any:
    if type(marks) is dict:
        return {key: _replaced((*path, key), held, replace) for key, held in marks.items()}
    if type(marks) is list:
        return [_replaced((*path, str(at)), held, replace) for at, held in enumerate(marks)]
    return replace(path, marks)


def leaves_of(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if type(value) in CONTAINERS and value:
        pairs = value.items() if type(value) is dict else enumerate(value)
        for key, held in pairs:
            yield from leaves_of((*path, str(key)), held)
    else:
        yield path, value
