"""Reading a log whose oldest events are gone.

A log is trimmed up to its base, an absolute seq. What stays continues the chain of digests: the digest of the event at
the base is kept, and so is the agent's state there.
"""

from __future__ import annotations

from typing import Final

from .codec import DIGEST_SIZE, NO_DIGEST
from .errors import AgentNotFound, CorruptEvent, Diverged, Trimmed
from .log import Base, EventLog

__all__ = ["NOT_FITTING", "digest_at", "feed_trimmed", "not_there", "trimmed_further", "unknown_agent"]

NOT_FITTING: Final = "head and list of {} do not fit together; restore them from a backup"


def digest_at(log: EventLog, agent: str, seq: int) -> bytes | None:
    """The digest of the event at `seq`, which the event after it continues; None if the log ends before it.

    The event itself may be trimmed, but none behind it. Raises Trimmed, AgentNotFound, CorruptEvent.
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


def unknown_agent(agent: str) -> AgentNotFound:
    return AgentNotFound(f"there is no agent {agent}; spawn it first", agent=agent)


def trimmed_further(agent: str, seq: int, base: int) -> Trimmed:
    """What comes after `seq` was asked for, and a part of it is gone."""
    return Trimmed(
        f"events up to {base} of {agent} were trimmed; read from {base + 1} on",
        agent=agent,
        expected=seq + 1,
        actual=base + 1,
    )


def not_there(agent: str, base: Base) -> Diverged:
    """The log is not to be trimmed by a state of another history."""
    return Diverged(
        f"the log of {agent} has another event at {base.seq}, or none; nothing was trimmed",
        agent=agent,
        seq=base.seq,
        expected=base.digest.hex(),
    )


def feed_trimmed(partition: int, position: int, base: int) -> Trimmed:
    """What both logs say to who asks for entries of a feed that are no longer there."""
    return Trimmed(
        f"the feed of partition {partition} was trimmed up to {base}: start again from position {base}, "
        "and take what came before from snapshots or from the agents' own logs",
        expected=position,
        actual=base,
    )
