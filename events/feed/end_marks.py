"""The marks after all that is committed now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..errors import DuramenError, Unavailable
from ..log import FeedSources, Span
from ..model import Mark

_CALL_BYTES: Final = 1


def end_marks(log: FeedSources, partitions: Sequence[int]) -> dict[int, Mark]:
    """The end of each partition's feed, with the last event there, in three exchanges. Raises Unavailable.

    A reader that begins at such a mark finds out if the log is replaced before it has read anything. Where the last
    event cannot be read, because it was trimmed or is damaged, the mark has the position alone.
    """
    ends = log.positions()
    marks = {partition: Mark(ends[partition]) for partition in partitions}
    filled = [partition for partition in partitions if ends[partition]]
    return {**marks, **_with_events(log, {partition: ends[partition] for partition in filled})}


def _with_events(log: FeedSources, ends: dict[int, int]) -> dict[int, Mark]:
    if not ends:
        return {}
    try:
        pages = log.feed_pages([(partition, end - 1, 1) for partition, end in ends.items()])
        spans = {partition: _last_of(page.fields) for partition, page in zip(ends, pages, strict=True) if page.fields}
        found = log.gather_all([(partition, [span]) for partition, span in spans.items()], _CALL_BYTES)
    except Unavailable:
        raise
    except DuramenError:  # of one of them: the others need not suffer for it
        each = [{partition: end} for partition, end in ends.items()] if len(ends) > 1 else []
        return {partition: mark for one in each for partition, mark in _with_events(log, one).items()}
    return {
        partition: Mark(ends[partition], 0, span.agent, span.from_seq, answers[0].items[0])
        for (partition, span), answers in zip(spans.items(), found, strict=True)
        if answers[0].items
    }


def _last_of(fields: list[Any]) -> Span:
    """The request for the digest of the last event of an entry."""
    agent, first, count, _ = fields
    return Span(agent, first + count - 1, 0)
