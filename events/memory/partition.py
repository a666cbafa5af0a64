"""A partition in memory, and its spans and trimming, answered as the server's scripts answer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field

from ..codec import DIGEST_SIZE
from ..errors import CorruptEvent
from ..log import (
    HEAD_MISMATCH,
    Base,
    BegunErasure,
    FeedEntry,
    Head,
    Span,
    SpanEvents,
    diverged_at_base,
    trimmed_further,
    unknown_agent,
)


@define(eq=False)
class Partition:
    """What is stored of the agents of a partition beside their events, which are found by key."""

    heads: dict[str, Head] = field(factory=dict[str, Head])
    directory: dict[str, bytes] = field(factory=dict[str, bytes])
    feed: list[FeedEntry] = field(factory=list[FeedEntry])
    base: int = 0
    """Entries trimmed from the feed."""
    end: int = 0
    """Where the appends have left the feed: the last of the marks."""
    marks: dict[int, int] = field(factory=dict[int, int])
    bases: dict[str, Base] = field(factory=dict[str, Base])
    owners: dict[str, bytes] = field(factory=dict[str, bytes])
    """By root agent, as stored."""
    erasures: int = 0
    """How often entries of the feed were made nobody's."""
    erased: dict[str, int] = field(factory=dict[str, int])
    """By agent: where the feed ended when it was last erased."""
    erasing: dict[str, BegunErasure] = field(factory=dict[str, BegunErasure])
    """The roots of the trees that are being erased, and by which host; None once their agents are gone."""
    unfinished: dict[str, int] = field(factory=dict[str, int])
    """By agent: when its unfinished work is due, in ms."""

    @property
    def is_sound(self) -> bool:
        """Whether the feed ends there."""
        return self.base + len(self.feed) == self.end


def gather_spans(
    spans: Sequence[Span],
    heads: Mapping[str, Head],
    bases: Mapping[str, Base],
    log_of: Callable[[str], list[bytes]],
    most_bytes: int,
) -> list[SpanEvents]:
    """As `EventLog.gather`; `log_of` returns an agent's whole list."""
    found: list[SpanEvents] = []
    for span in spans:
        if most_bytes <= 0:
            break
        agent = span.agent
        found.append(_events_of(span, heads.get(agent), bases.get(agent), log_of(agent), most_bytes))
        most_bytes -= sum(map(len, found[-1].items))
    return found


def _events_of(span: Span, head: Head | None, base: Base | None, stored: list[bytes], most_bytes: int) -> SpanEvents:
    """Up to the event that reaches `most_bytes`; `stored` is the agent's whole list."""
    if head is None:
        return SpanEvents(-1, -1, span.from_seq, [])
    first = max(span.from_seq, head.base + 1)
    if not span.count:
        return SpanEvents(head.base, head.seq, first, _digest(span, head, base, stored))
    items: list[bytes] = []
    for item in stored[first - head.base - 1 : max(0, span.from_seq + span.count - head.base - 1)]:
        items.append(item)
        most_bytes -= len(item)
        if most_bytes <= 0:
            break
    return SpanEvents(head.base, head.seq, first, items)


def _digest(span: Span, head: Head, base: Base | None, stored: list[bytes]) -> list[bytes]:
    if span.from_seq <= head.base:
        return [base.digest] if base is not None and base.seq == span.from_seq else []
    at = span.from_seq - head.base - 1
    return [item[:DIGEST_SIZE] for item in stored[at : at + 1]]


def count_to_trim(agent: str, head: Head | None, known: Base | None, items: Sequence[bytes], base: Base) -> int:
    """How many events trimming up to `base` removes; 0: it was done before. `known` is the log's present base.

    The same checks, in the same order, as `agents/trim.lua`. Raises what `EventLog.trim` raises.
    """
    if head is None:
        raise unknown_agent(agent)
    count = base.seq - head.base
    if count < 0:
        raise trimmed_further(agent, base.seq, head.base)
    if count == 0:
        if known != base:
            raise diverged_at_base(agent, base)
    elif head.base + len(items) != head.seq:
        raise CorruptEvent(HEAD_MISMATCH.format(agent), agent=agent)
    elif count > len(items) or items[count - 1][:DIGEST_SIZE] != base.digest:
        raise diverged_at_base(agent, base)
    return count
