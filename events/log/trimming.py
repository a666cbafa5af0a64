"""The errors of reading and trimming a log whose oldest events are gone.

A log is trimmed up to its base, an absolute seq. The digest of the event at the base is kept, so that the next event
continues the chain of digests, and so is the agent's state there.
"""

from __future__ import annotations

from typing import Final

from ..errors import CorruptEvent, Diverged, Trimmed
from .records import Base

HEAD_MISMATCH: Final = "head and list of {} do not fit together; restore them from a backup"


def trimmed_further(agent: str, seq: int, base: int) -> Trimmed:
    """The error of reading what follows `seq` where a part of it is gone."""
    return Trimmed(
        f"events up to {base} of {agent} were trimmed; read from {base + 1} on",
        agent=agent,
        expected=seq + 1,
        actual=base + 1,
    )


def diverged_at_base(agent: str, base: Base) -> Diverged:
    """The error of trimming by a state of another history."""
    return Diverged(
        f"the log of {agent} has another event at {base.seq}, or none; nothing was trimmed",
        agent=agent,
        seq=base.seq,
        expected=base.digest.hex(),
    )


def feed_damaged(partition: int, expected: int | None = None, actual: int | None = None) -> CorruptEvent:
    """The error of a feed that does not end where its appends have left it: entries were removed, or added."""
    return CorruptEvent(
        f"the feed of partition {partition} does not end where its appends have left it: somebody else has removed "
        "entries, or added some; restore it from a backup",
        expected=expected,
        actual=actual,
    )


def feed_trimmed(partition: int, position: int, base: int) -> Trimmed:
    """The error of reading entries of a feed that are no longer there."""
    return Trimmed(
        f"the feed of partition {partition} was trimmed up to {base}: start again from position {base}, "
        "and take what came before from snapshots or from the agents' own logs",
        expected=position,
        actual=base,
    )
