"""Moments of an agent's past, named by a seq, a time, or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from duramen.events import AgentNotFound, CheckpointNotFound, InvalidMessage, Limits, Trimmed
from duramen.events.codec import Codec, to_microseconds
from duramen.events.log import EventLog, Head, digest_at, raw_events

from .rebuild import rebuild

__all__ = ["Point", "head_of", "last_before", "seq_of", "seq_of_checkpoint", "seq_of_time", "within"]

Point: TypeAlias = "int | datetime | str"
"""A seq, a time (aware), or the id of a checkpoint."""


def seq_of(log: EventLog, agent: str, codec: Codec, limits: Limits, point: Point | None) -> int:
    """The seq that a point stands for; the head for None.

    Raises AgentNotFound, Trimmed, CheckpointNotFound, InvalidMessage for a seq past the head or what is no point.
    """
    head = head_of(log, agent)
    if point is None:
        return head.seq
    if type(point) is int:
        return within(agent, head, point)
    if isinstance(point, datetime):
        return seq_of_time(log, agent, codec, point)
    if isinstance(point, str):
        return within(agent, head, seq_of_checkpoint(log, agent, codec, limits, point))
    raise InvalidMessage("a moment is a seq (int), a time (aware datetime) or a checkpoint id (str)", agent=agent)


def head_of(log: EventLog, agent: str) -> Head:
    """Raises AgentNotFound."""
    head = log.head(agent)
    if head is None:
        raise AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)
    return head


def within(agent: str, head: Head, seq: int) -> int:
    """The seq, if there is a state at it. Raises Trimmed, InvalidMessage."""
    if seq < 0 or seq > head.seq:
        raise InvalidMessage(
            f"the log of {agent} ends at {head.seq}; there is no state at {seq}",
            agent=agent,
            seq=seq,
            expected=head.seq,
            actual=seq,
        )
    if seq < head.base:
        raise Trimmed(
            f"events up to {head.base} of {agent} were trimmed; its states are there from {head.base} on",
            agent=agent,
            expected=seq,
            actual=head.base,
        )
    return seq


def seq_of_time(log: EventLog, agent: str, codec: Codec, time: datetime) -> int:
    """A seq whose event was written at `time` or before, while the next one was written later, or is not there yet.

    Times are those of the writers' clocks. Where they went backwards several seqs fit, and this is one of them. 0 where
    the first event is later. Some twenty events are read, however long the log. Raises Trimmed where the first that is
    left is later.
    """
    if time.utcoffset() is None:
        raise InvalidMessage("a time needs a time zone, for example datetime.now(UTC)", agent=agent)
    head, wanted = head_of(log, agent), to_microseconds(time)

    def time_at(seq: int) -> int:
        after = digest_at(log, agent, seq - 1)
        _, raw, _ = next(raw_events(log, agent, codec, after=seq - 1, digest=after or b"", to_seq=seq))
        return int(raw[3])

    found = last_before(head.base, head.seq, lambda seq: time_at(seq) <= wanted)
    if found == head.base > 0:
        raise Trimmed(
            f"what is left of the log of {agent} begins after that time",
            agent=agent,
            expected=time,
            actual=head.base + 1,
        )
    return found


def last_before(low: int, high: int, is_before: Callable[[int], bool]) -> int:
    """The number of `low + 1 … high` that is before what is looked for, while the next is not; `low` if none is."""
    high += 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_before(middle) else (low, middle)
    return low


def seq_of_checkpoint(log: EventLog, agent: str, codec: Codec, limits: Limits, checkpoint_id: str) -> int:
    """The seq of the pause that took a checkpoint, the latest of that id. Raises CheckpointNotFound.

    The checkpoint itself may have expired: what is there is the log's own word, until a later pause forgets it.
    """
    entry = rebuild(log, agent, codec, limits).state.checkpoints.get(checkpoint_id)
    if entry is None:
        raise CheckpointNotFound(
            f"the log of {agent} knows no checkpoint {checkpoint_id[:80]!r}; name a seq or a time instead", agent=agent
        )
    return int(entry[0])
