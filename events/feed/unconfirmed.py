"""Events taken from notices, and the later comparison with the log.

A chain of digests shows that an event continues what was read, not that the log has it: whoever reads a channel and may
publish on it can invent one. So events taken from notices are remembered, in short, until the log has shown them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field

from ..codec import DIGEST_SIZE, DigestChain, broken_chain_error
from ..errors import DataLoss, Diverged, DuramenError, Trimmed, Unavailable
from ..log import FeedPage, FeedRow, FeedSources, Notice, Span, SpanEvents
from .last_digests import LastDigests
from .notice_batches import rows_of

_SPANS: Final = 500
"""Digests read in one call, which blocks the server for others."""
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
        """The seq of the last event."""
        return self.first_seq + len(self.bodies) - 1


def next_events(batch: Sequence[Notice], known: LastDigests, chain: DigestChain) -> list[NoticedEvents] | None:
    """The events of a batch, an element each feed entry; None where they cannot be known to be the next.

    Raises CorruptEvent for events that would be the next of their agent but do not continue what was read.
    """
    rows = rows_of(batch)
    if rows is None:
        return None
    found: list[NoticedEvents] = []
    here: dict[str, tuple[int, bytes]] = {}
    for agent, first, items, bits in rows:
        last = here.get(agent) or known.get(agent)
        # An agent's first event continues no digest that only a reader can know, so it is not trusted either.
        if last is None or last[0] + 1 != first or not items:
            return None
        followed = chain.verify_items(last[1], items)
        if followed is None:
            raise broken_chain_error(agent, first, last[1], items[0][:DIGEST_SIZE])
        noticed = NoticedEvents(agent, first, *followed, bits)
        here[agent] = (noticed.seq, noticed.digests[-1])
        found.append(noticed)
    return found


@define(eq=False)
class UnconfirmedEvents:
    """Events taken from the notices of one partition and not yet found in its log."""

    count: int = 0
    """Feed entries."""
    runs: list[tuple[int, list[FeedRow]]] = field(factory=list[tuple[int, list[FeedRow]]])
    """Consecutive entries, and the position before the first."""
    last: dict[str, tuple[int, bytes]] = field(factory=dict[str, tuple[int, bytes]])
    """Seq and digest of the last event of each agent; its digest covers all before it."""

    def add(self, before: int, noticed: Sequence[NoticedEvents]) -> None:
        """Remember the events of a batch, whose entries begin after position `before`."""
        if not self.runs or self.runs[-1][0] + len(self.runs[-1][1]) != before:
            self.runs.append((before, []))
        rows = self.runs[-1][1]
        for one in noticed:
            rows.append((one.agent, one.first_seq, len(one.bodies), one.bits))
            self.last[one.agent] = (one.seq, one.digests[-1])
        self.count += len(noticed)

    def clear(self) -> None:
        """Forget them: the log has them."""
        self.count = 0
        self.runs, self.last = [], {}


def confirm_with_log(log: FeedSources, parts: Mapping[int, UnconfirmedEvents]) -> dict[int, DuramenError]:
    """Compare the unconfirmed events of partitions with the log, and forget them; returns Diverged or DataLoss of each.

    Two exchanges for all partitions together. Raises Unavailable, and then forgets nothing.
    """
    try:
        found = _compare(log, parts)
    except Unavailable:
        raise
    except DuramenError as error:  # of one of them: the others are compared without it
        if len(parts) > 1:
            return {
                number: wrong for one in parts for number, wrong in confirm_with_log(log, {one: parts[one]}).items()
            }
        found = dict.fromkeys(parts, error)
    for unconfirmed in parts.values():
        unconfirmed.clear()
    return {partition: wrong for partition, wrong in found.items() if wrong is not None}


def _compare(log: FeedSources, parts: Mapping[int, UnconfirmedEvents]) -> dict[int, DuramenError | None]:
    pages = [(partition, *run) for partition, unconfirmed in parts.items() for run in unconfirmed.runs]
    found: dict[int, DuramenError | None] = dict.fromkeys(parts)
    try:
        entries = log.feed_pages([(partition, start, len(rows)) for partition, start, rows in pages])
    except Trimmed:  # only the digests can be compared then
        pages, entries = [], []
    for (partition, start, rows), page in zip(pages, entries, strict=True):
        if not _same_rows(page.rows, rows):
            found[partition] = found[partition] or _another_feed(partition, start + len(rows), page)
    requests = [
        (partition, portion)
        for partition, unconfirmed in parts.items()
        for portion in _portions([Span(agent, seq, 0) for agent, (seq, _) in unconfirmed.last.items()])
    ]
    for (partition, spans), answers in zip(requests, log.gather_all(requests, _NO_LIMIT), strict=True):
        for span, answer in zip(spans, answers, strict=True):
            wrong = _another_log(span, parts[partition].last[span.agent][1], answer)
            if wrong is not None and log.erased_until(partition, span.agent) > parts[partition].runs[0][0]:
                continue  # the agent was erased since
            found[partition] = found[partition] or wrong
    return found


def _same_rows(found: Sequence[FeedRow], noticed: Sequence[FeedRow]) -> bool:
    """Whether a feed has these entries; those of agents that were erased since are nobody's."""
    return len(found) == len(noticed) and all(
        one == other or (not one[0] and one[1:3] == other[1:3]) for one, other in zip(found, noticed, strict=True)
    )


def _portions(spans: list[Span]) -> list[list[Span]]:
    return [spans[at : at + _SPANS] for at in range(0, len(spans), _SPANS)]


def _another_feed(partition: int, position: int, page: FeedPage) -> DuramenError:
    kind = DataLoss if page.end < position else Diverged
    return kind(
        f"notices of partition {partition} named events that are not in its feed: somebody else publishes there, or "
        "the server lost what it had acknowledged; see who may publish, and begin again from an earlier cursor",
        expected=position,
        actual=page.end,
    )


def _another_log(span: Span, digest: bytes, found: SpanEvents) -> DuramenError | None:
    lost = found.head < span.from_seq
    if not lost and found.items[:1] in ([], [digest]):  # a trimmed one cannot be compared any more
        return None
    return (DataLoss if lost else Diverged)(
        f"event {span.from_seq} of {span.agent} came as a notice, but the log has another there, or none: "
        "somebody else publishes there, or the server lost what it had acknowledged; see who may publish, and begin "
        "again from an earlier cursor",
        agent=span.agent,
        seq=span.from_seq,
        expected=span.from_seq if lost else digest.hex(),
        actual=max(0, found.head) if lost else found.items[0].hex(),
    )
