"""Putting the notices of one batch together that came on the channels of several levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..log import Notice


class Row(NamedTuple):
    """One append of a batch: consecutive events of one agent, as stored, and their levels as bits."""

    agent: str
    first_seq: int
    items: list[bytes]
    bits: int


def complete_batches(notices: Sequence[Notice]) -> list[list[Notice]]:
    """The notices of each batch whose notices are all there: one for each level that the batch has events of."""
    found: list[list[Notice]] = []
    waiting: dict[int, dict[int, Notice]] = {}
    for notice in notices:
        if notice.levels == 1 << notice.level:
            found.append([notice])
            continue
        parts = waiting.setdefault(notice.partition, {})
        if any(_batch_of(part) != _batch_of(notice) for part in parts.values()):
            parts.clear()
        parts[notice.level] = notice
        if sum(1 << level for level in parts) == notice.levels:
            found.append(list(waiting.pop(notice.partition).values()))
    return found


def _batch_of(notice: Notice) -> tuple[int, int, int]:
    return notice.before, notice.position, notice.levels


def rows_of(batch: Sequence[Notice]) -> list[Row] | None:
    """The appends of a batch, in their order, from the notices of all its levels.

    None where they cannot be known: a notice or its events are missing, or agents share no level, so that no notice
    shows their order.
    """
    first = batch[0]
    all_there = sum(1 << notice.level for notice in batch) == first.levels
    if not all_there or any(notice.events is None for notice in batch):
        return None
    rows = _rows_of_one(first) if len(batch) == 1 else _merge(batch)
    return rows if rows is not None and len(rows) == first.position - first.before else None


def _rows_of_one(notice: Notice) -> list[Row]:
    return [Row(agent, first, items, notice.levels) for agent, first, items in notice.events or ()]


def _merge(batch: Sequence[Notice]) -> list[Row] | None:
    parts: dict[str, list[tuple[int, list[bytes], int]]] = {}
    for notice in batch:
        for agent, first, items in notice.events or ():
            parts.setdefault(agent, []).append((first, items, 1 << notice.level))
    order = _only_order([list(dict.fromkeys(agent for agent, _, _ in notice.events or ())) for notice in batch])
    rows = [] if order is None else [_join(agent, sorted(parts[agent], key=_place)) for agent in order]
    return None if order is None else [row for row in rows if row is not None]


def _place(part: tuple[int, list[bytes], int]) -> int:
    return part[0]


def _join(agent: str, parts: Sequence[tuple[int, list[bytes], int]]) -> Row | None:
    """The parts of one append; None if an event is missing between them."""
    first, items, bits = parts[0][0], list[bytes](), 0
    for at, some, bit in parts:
        if at != first + len(items):
            return None
        items += some
        bits |= bit
    return Row(agent, first, items, bits)


def _only_order(orders: Sequence[list[str]]) -> list[str] | None:
    """The only order of all agents that keeps each of these orders; None if there are several, or none."""
    times = Counter(agent for order in orders for agent in order)
    left: list[list[str]] = [order[::-1] for order in orders if order]
    found: list[str] = []
    while left:
        fronts = Counter(order[-1] for order in left)
        ready = [agent for agent, count in fronts.items() if count == times[agent]]
        if len(ready) != 1:
            return None
        found += ready
        for order in left:
            if order[-1] == ready[0]:
                order.pop()
        left = [order for order in left if order]
    return found
