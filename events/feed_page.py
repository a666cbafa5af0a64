"""Entries of a feed: which appends a partition took, in the order in which it did."""

from __future__ import annotations

from typing import Any

from attrs import frozen

__all__ = ["FeedEntry", "FeedPage", "FeedRow", "Wish"]

Wish = tuple[int, int, int]
"""What is asked of a feed: its partition, a position, and how many entries behind it at most."""

FeedRow = tuple[str, int, int, int]
"""The fields of a `FeedEntry`."""


@frozen
class FeedEntry:
    """One append in the partition's commit order. `levels` has bit `1 << level` for each granularity in it."""

    agent: str
    first_seq: int
    count: int
    levels: int


@frozen
class FeedPage:
    """Consecutive entries of a feed from the position asked for on, and where the feed ended at that moment."""

    fields: list[Any]
    """Agent, first seq, count and levels of an entry, then of the next: a million tuples would take their time."""
    end: int

    @property
    def rows(self) -> list[FeedRow]:
        each = iter(self.fields)
        return list(zip(each, each, each, each, strict=True))

    @property
    def entries(self) -> list[FeedEntry]:
        return [FeedEntry(*row) for row in self.rows]
