"""Reading a little of many partitions: what their readers need next is asked for together."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DuramenError, Unavailable
from ..log import EventLog, Span, SpanEvents
from .reader import FeedReader

__all__ = ["fetch_together"]

_CALL_BYTES = 1024 * 1024


def fetch_together(log: EventLog, readers: Sequence[FeedReader]) -> None:
    """Fetch what each of these readers, of one log, takes next: in two exchanges for all, and not two for each.

    An optimisation: whatever is odd is left to the reader that comes upon it, and one that is far behind, or has
    something in hand, is left out. Raises Unavailable.
    """
    asked = [(reader, wish) for reader in readers if (wish := reader.wish()) is not None]
    if len(asked) < 2:
        return
    try:
        pages = log.feed_pages([wish for _, wish in asked])
        planned: list[tuple[FeedReader, int, list[Span]]] = []
        for (reader, wish), page in zip(asked, pages, strict=True):
            spans = reader.foresee(wish, page)
            if spans:
                planned.append((reader, wish[0], spans))
        found = log.gather_all([(partition, spans) for _, partition, spans in planned], _CALL_BYTES)
    except Unavailable:
        raise
    except DuramenError:
        return
    for (reader, _, spans), stretches in zip(planned, found, strict=True):
        reader.provide([_whole(span, stretch) for span, stretch in zip(spans, stretches, strict=False)])


def _whole(span: Span, stretch: SpanEvents) -> SpanEvents | None:
    """A stretch that has all that was asked for."""
    return stretch if len(stretch.items) == max(1, span.count) else None
