"""Events taken from notices: only those that are the next ones, and each to be found in the log soon after.

A chain of digests shows that an event continues what was read, not that the log has it: who reads a channel and may
publish there can make up one. So what was taken is remembered, in short, until it was compared with the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field

from ..codec import DIGEST_SIZE, DigestChain, broken_chain_error
from ..errors import DataLoss, Diverged, DuramenError, Trimmed, Unavailable
from ..log import EventLog, FeedPage, FeedRow, Notice, Span, SpanEvents
from .last_digests import LastDigests
from .notice_batches import rows_of

__all__ = ["NoticedEvents", "UnconfirmedEvents", "confirm_with_log", "next_ones"]

_SPANS: Final = 500
"""Looked at in one call, which keeps the server from serving others."""
_NO_LIMIT: Final = 1 << 40


@define(eq=False)
class NoticedEvents:
    """Consecutive events of one agent, whose chain of digests continues what was read."""

    agent: str
    first_seq: int
    digests: list[bytes]
    bodies: list[bytes]
    bits: int
    """`1 << level` for each granularity among them."""

    @property
    def seq(self) -> int:
        """Of the last."""
        return self.first_seq + len(self.bodies) - 1


def next_ones(messages: Sequence[Notice], known: LastDigests, chain: DigestChain) -> list[NoticedEvents] | None:
    """What a batch's messages say of each entry of the feed; None where it cannot be known whether it is the next one.

    Raises CorruptEvent for one that would be the next of its agent, and does not continue what was read.
    """
    rows = rows_of(messages)
    if rows is None:
        return None
    found: list[NoticedEvents] = []
    here: dict[str, tuple[int, bytes]] = {}
    for agent, first, items, bits in rows:
        last = here.get(agent) or known.get(agent)
        # Of an agent's first event nothing is before it that only a reader can know: so it is not believed either.
        if last is None or last[0] + 1 != first or not items:
            return None
        followed = chain.verify_items(last[1], items)
        if followed is None:
            raise broken_chain_error(agent, first, last[1], items[0][:DIGEST_SIZE])
        said = NoticedEvents(agent, first, *followed, bits)
        here[agent] = (said.seq, said.digests[-1])
        found.append(said)
    return found


@define(eq=False)
class UnconfirmedEvents:
    """What was taken from the notices of one partition and not yet found in its log."""

    count: int = 0
    """Entries of the feed."""
    stretches: list[tuple[int, list[FeedRow]]] = field(factory=list[tuple[int, list[FeedRow]]])
    """Consecutive entries, and the position before the first."""
    last: dict[str, tuple[int, bytes]] = field(factory=dict[str, tuple[int, bytes]])
    """Seq and digest of the last event of each agent, which vouches for all before it."""

    def add(self, before: int, said: Sequence[NoticedEvents]) -> None:
        """Remember what was taken of a batch, which began behind a position."""
        if not self.stretches or self.stretches[-1][0] + len(self.stretches[-1][1]) != before:
            self.stretches.append((before, []))
        rows = self.stretches[-1][1]
        for one in said:
            rows.append((one.agent, one.first_seq, len(one.bodies), one.bits))
            self.last[one.agent] = (one.seq, one.digests[-1])
        self.count += len(said)

    def clear(self) -> None:
        """It was found in the log."""
        self.count = 0
        self.stretches, self.last = [], {}


def confirm_with_log(log: EventLog, heard: Mapping[int, UnconfirmedEvents]) -> dict[int, DuramenError]:
    """Look whether the log has all that was taken, and forget it; by partition, what is wrong: Diverged, DataLoss.

    Two exchanges for all partitions together. Raises Unavailable, and then forgets nothing.
    """
    try:
        found = _looked_up(log, heard)
    except Unavailable:
        raise
    except DuramenError as error:  # of one of them: the others need not suffer for it
        if len(heard) > 1:
            return {
                number: wrong for one in heard for number, wrong in confirm_with_log(log, {one: heard[one]}).items()
            }
        found = dict.fromkeys(heard, error)
    for hearsay in heard.values():
        hearsay.clear()
    return {partition: wrong for partition, wrong in found.items() if wrong is not None}


def _looked_up(log: EventLog, heard: Mapping[int, UnconfirmedEvents]) -> dict[int, DuramenError | None]:
    pages = [(partition, *stretch) for partition, hearsay in heard.items() for stretch in hearsay.stretches]
    found: dict[int, DuramenError | None] = dict.fromkeys(heard)
    try:
        entries = log.feed_pages([(partition, start, len(rows)) for partition, start, rows in pages])
    except Trimmed:  # so somebody has read them, and only the digests can be compared
        pages, entries = [], []
    for (partition, start, rows), page in zip(pages, entries, strict=True):
        if page.rows != rows:
            found[partition] = found[partition] or _another_feed(partition, start + len(rows), page)
    looks = [
        (partition, part)
        for partition, hearsay in heard.items()
        for part in _portions([Span(agent, seq, 0) for agent, (seq, _) in hearsay.last.items()])
    ]
    for (partition, spans), stretches in zip(looks, log.gather_all(looks, _NO_LIMIT), strict=True):
        for span, stretch in zip(spans, stretches, strict=True):
            wrong = _another_log(span, heard[partition].last[span.agent][1], stretch)
            found[partition] = found[partition] or wrong
    return found


def _portions(spans: list[Span]) -> list[list[Span]]:
    return [spans[at : at + _SPANS] for at in range(0, len(spans), _SPANS)]


def _another_feed(partition: int, position: int, page: FeedPage) -> DuramenError:
    kind = DataLoss if page.end < position else Diverged
    return kind(
        f"what was told on the channels of partition {partition} is not in its feed: somebody else publishes there, or "
        "the server lost what it had acknowledged; see who may publish, and begin again from an earlier cursor",
        expected=position,
        actual=page.end,
    )


def _another_log(span: Span, digest: bytes, stretch: SpanEvents) -> DuramenError | None:
    lost = stretch.head < span.from_seq
    if not lost and stretch.items[:1] in ([], [digest]):  # a trimmed one can not be compared any more
        return None
    return (DataLoss if lost else Diverged)(
        f"event {span.from_seq} of {span.agent} was told on a channel, but the log has another there, or none: "
        "somebody else publishes there, or the server lost what it had acknowledged; see who may publish, and begin "
        "again from an earlier cursor",
        agent=span.agent,
        seq=span.from_seq,
        expected=span.from_seq if lost else digest.hex(),
        actual=max(0, stretch.head) if lost else stretch.items[0].hex(),
    )
