"""Reading a log page after page: what both backends share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from ..codec import DIGEST_SIZE, NO_DIGEST, Codec, RawEvent, broken_chain_error, build_valid_event, decode_items
from ..errors import AgentNotFound, CorruptEvent, DataLoss, Diverged, DuramenError, Erased, Trimmed
from ..model import Event, EventRegistry
from .event_log import AgentLogReader, EventLog
from .records import Head, Page
from .trimming import trimmed_further

_MOST: Final = 1 << 52
"""More events than a log can have; a page's own limit is less."""


def pages_of(
    agent: str,
    from_seq: int,
    to_seq: int | None,
    read: Callable[[int, int], Page | None],
    request_next: Callable[[Page, int], None] | None = None,
) -> Iterator[Page]:
    """As `AgentLogReader.pages`. `request_next` gets each page but the last, and how many events are to follow it."""
    while to_seq is None or from_seq <= to_seq:
        page = read(from_seq, _MOST if to_seq is None else to_seq - from_seq + 1)
        if page is None:
            raise unknown_agent(agent)
        if not page.items:
            return
        if to_seq is None:
            to_seq = page.head.seq  # what is appended while reading belongs to the next reading
        from_seq += len(page.items)
        if request_next is not None and from_seq <= to_seq:
            request_next(page, to_seq - from_seq + 1)
        yield page


def raw_events(
    log: AgentLogReader,
    agent: str,
    codec: Codec,
    *,
    after: int = 0,
    digest: bytes = NO_DIGEST,
    to_seq: int | None = None,
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """Seq, raw fields and digest of each event after seq `after`, whose digest is given, up to the head or `to_seq`.

    Reads in pages, so memory stays bounded. Raises AgentNotFound, Trimmed, and CorruptEvent at the first event
    whose bytes do not continue the chain of digests, do not decode, or have fields of another form.
    """
    seq = after
    for page in log.pages(agent, after + 1, to_seq):
        yield from decode_items(agent, page.items, codec, log.chain, after=seq, digest=digest)
        seq += len(page.items)
        digest = page.items[-1][:DIGEST_SIZE]


def read_events(
    log: AgentLogReader,
    agent: str,
    codec: Codec,
    registry: EventRegistry,
    *,
    from_seq: int = 1,
    to_seq: int | None = None,
) -> Iterator[Event]:
    """Events of one agent's log, oldest first, in pages. Raises what `raw_events` and `build_event` raise."""
    after, digest = from_seq - 1, NO_DIGEST
    if after > 0:
        found = digest_at(log, agent, after)
        if found is None:
            return
        digest = found
    for seq, raw, own in raw_events(log, agent, codec, after=after, digest=digest, to_seq=to_seq):
        yield build_valid_event(agent, seq, raw, own, registry)


def digest_at(log: AgentLogReader, agent: str, seq: int) -> bytes | None:
    """The digest of the event at `seq`, which the event after it continues; None if the log ends before it.

    That event may be trimmed, but none after it. Raises Trimmed, AgentNotFound, CorruptEvent.
    """
    if seq == 0:
        return NO_DIGEST
    try:
        page = log.read(agent, seq, 1)
    except Trimmed:
        base = log.base(agent)
        if base is None:
            raise CorruptEvent(
                f"{agent} was trimmed, but what its log continues is gone; restore it from a backup", agent=agent
            ) from None
        if base.seq != seq:
            raise trimmed_further(agent, seq, base.seq) from None
        return base.digest
    if page is None:
        raise unknown_agent(agent)
    return page.items[0][:DIGEST_SIZE] if page.items else None


def check_known_event(log: EventLog, agent: str, head: Head | None, seq: int, digest: bytes) -> None:
    """Raise DataLoss or Diverged if the log has lost an event that this process knew, or has another in its place.

    Raises Erased where an agent of this path was erased. An event that was trimmed cannot be compared.
    """
    wrong = _find_loss(log, agent, head, seq, digest)
    if wrong is None:
        return
    if log.erased_until(log.partition_of(agent), agent) >= 0:
        raise Erased(
            f"{agent} was erased after its event {seq} was known here; ask again for what is under this path now",
            agent=agent,
            seq=seq,
        )
    raise wrong


def _find_loss(log: EventLog, agent: str, head: Head | None, seq: int, digest: bytes) -> DuramenError | None:
    reached = 0 if head is None else head.seq
    if reached < seq:
        return DataLoss(
            f"the server lost events of {agent} that it had acknowledged: {seq} were known here, and the log "
            f"ends at {reached}; check its persistence and failovers, then ask again to go on from there",
            agent=agent,
            seq=seq,
            expected=seq,
            actual=reached,
        )
    if head is None or seq < head.base:
        return None
    found = head.digest if seq == head.seq else digest_at(log, agent, seq)
    return None if found == digest else diverged_from_known(agent, seq, digest, found)


def diverged_from_known(agent: str, seq: int, expected: bytes, found: bytes | None) -> Diverged:
    """The error where the log has another event than the one that this process knew."""
    return Diverged(
        f"event {seq} of {agent} is another than the one known here: the log was replaced, restored or failed over, "
        "and acknowledged events are lost; look at the log, then ask again to go on from there",
        agent=agent,
        seq=seq,
        expected=expected.hex(),
        actual=None if found is None else found.hex(),
    )


def check_last_event(log: AgentLogReader, agent: str, head: Head) -> None:
    """Raise CorruptEvent if the last event of a log is not the one that the head names."""
    if head.seq == head.base:
        return
    previous, item = _last_two(log, agent, head)
    stored, body = item[:DIGEST_SIZE], item[DIGEST_SIZE:]
    if previous is None or not stored == head.digest == log.chain.digest(previous, body):
        raise broken_chain_error(agent, head.seq, head.digest, stored)


def _last_two(log: AgentLogReader, agent: str, head: Head) -> tuple[bytes | None, bytes]:
    """The digest of the event before the last one, and the last one as it is stored; empty if the log ends before."""
    if head.seq - 1 > head.base:
        with suppress(Trimmed):  # meanwhile
            page = log.read(agent, head.seq - 1, 2)
            if page is not None and len(page.items) == 2:
                return page.items[0][:DIGEST_SIZE], page.items[1]
    previous = digest_at(log, agent, head.seq - 1)
    page = log.read(agent, head.seq, 1)
    return previous, page.items[0] if page is not None and page.items else b""


def unknown_agent(agent: str) -> AgentNotFound:
    return AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)
