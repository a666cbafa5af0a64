"""Putting together what the channels of several levels tell of one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..log import Notice

__all__ = ["Row", "complete_batches", "rows_of"]


class Row(NamedTuple):
    """One append of a batch: consecutive events of one agent, as stored, and their levels as bits."""

    agent: str
    first_seq: int
    items: list[bytes]
    bits: int


def complete_batches(told: Sequence[Notice]) -> list[list[Notice]]:
    """The batches whose messages are all there, each with them: one of each level that it has events of."""
    found: list[list[Notice]] = []
    waiting: dict[int, dict[int, Notice]] = {}
    for notice in told:
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


def rows_of(messages: Sequence[Notice]) -> list[Row] | None:
    """The appends of a batch, in their order, from the messages of all its levels.

    None where these do not tell them: a message or its events are missing, or agents that share no level came in an
    order that no message shows.
    """
    first = messages[0]
    all_there = sum(1 << message.level for message in messages) == first.levels
    if not all_there or any(message.events is None for message in messages):
        return None
    rows = _in_turn(first) if len(messages) == 1 else _merged(messages)
    return rows if rows is not None and len(rows) == first.position - first.before else None


def _in_turn(message: Notice) -> list[Row]:
    return [Row(agent, first, items, message.levels) for agent, first, items in message.events or ()]


def _merged(messages: Sequence[Notice]) -> list[Row] | None:
    parts: dict[str, list[tuple[int, list[bytes], int]]] = {}
    for message in messages:
        for agent, first, items in message.events or ():
            parts.setdefault(agent, []).append((first, items, 1 << message.level))
    order = _one_order([list(dict.fromkeys(agent for agent, _, _ in message.events or ())) for message in messages])
    rows = [] if order is None else [_joined(agent, sorted(parts[agent], key=_place)) for agent in order]
    return None if order is None else [row for row in rows if row is not None]


def _place(part: tuple[int, list[bytes], int]) -> int:
    return part[0]


def _joined(agent: str, parts: Sequence[tuple[int, list[bytes], int]]) -> Row | None:
    """The stretches of one append; None if something is missing between them."""
    first, items, bits = parts[0][0], list[bytes](), 0
    for at, some, bit in parts:
        if at != first + len(items):
            return None
        items += some
        bits |= bit
    return Row(agent, first, items, bits)


def _one_order(orders: Sequence[list[str]]) -> list[str] | None:
    """The only order of all of them in which each of these is in its own order; None if there are more, or none."""
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
