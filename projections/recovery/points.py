"""Moments of an agent's past, named by a seq, a time, or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from duramen.events import CheckpointNotFound, InvalidMessage, Trimmed
from duramen.events.codec import to_microseconds
from duramen.events.log import Head

from .agent_log import AgentLog
from .rebuild import rebuild

Point: TypeAlias = int | datetime | str
"""A seq, a time (aware), or the id of a checkpoint."""


def seq_of(agent_log: AgentLog, point: Point | None) -> int:
    """The seq that a point stands for; the head for None.

    Raises AgentNotFound, Trimmed, CheckpointNotFound, InvalidMessage for a seq past the head or what is no point.
    """
    agent, head = agent_log.agent, agent_log.head()
    if point is None:
        return head.seq
    if type(point) is int:
        return within(agent, head, point)
    if isinstance(point, datetime):
        return seq_of_time(agent_log, point)
    if isinstance(point, str):
        return within(agent, head, _seq_of_checkpoint(agent_log, point))
    raise InvalidMessage("a moment is a seq (int), a time (aware datetime) or a checkpoint id (str)", agent=agent)


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


def seq_of_time(agent_log: AgentLog, time: datetime) -> int:
    """A seq whose event was written at `time` or before, while the next one was written later, or is not there yet.

    Times are the server's, as the writers know it. Where they went backwards several seqs fit, and this is one of
    them. 0 where the first event is later. Some twenty events are read, however long the log. Raises InvalidMessage for
    a time without a zone, Trimmed where the first event that is left is later.
    """
    agent = agent_log.agent
    if time.utcoffset() is None:
        raise InvalidMessage("a time needs a time zone, for example datetime.now(UTC)", agent=agent)
    head, wanted = agent_log.head(), to_microseconds(time)
    found = last_before(head.base, head.seq, lambda seq: int(agent_log.raw_event(seq)[3]) <= wanted)
    if found == head.base > 0:
        raise Trimmed(
            f"what is left of the log of {agent} begins after that time",
            agent=agent,
            expected=time,
            actual=head.base + 1,
        )
    return found


def last_before(low: int, high: int, is_before: Callable[[int], bool]) -> int:
    """The last number of `low + 1 … high` that is before, as all up to it are; `low` if none is."""
    high += 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_before(middle) else (low, middle)
    return low


def _seq_of_checkpoint(agent_log: AgentLog, checkpoint_id: str) -> int:
    """The seq of the pause that took a checkpoint, the latest of that id. Raises CheckpointNotFound.

    The checkpoint itself may have expired: the log knows its seq until a later pause forgets it.
    """
    entry = rebuild(agent_log).state.checkpoints.get(checkpoint_id)
    if entry is None:
        agent = agent_log.agent
        raise CheckpointNotFound(
            f"the log of {agent} knows no checkpoint {checkpoint_id[:80]!r}; name a seq or a time instead", agent=agent
        )
    return int(entry[0])
