"""What the log in memory asks before it trims."""

from __future__ import annotations

from collections.abc import Sequence

from .codec import DIGEST_SIZE
from .errors import CorruptEvent
from .log import Base, Head
from .trimming import NOT_FITTING, not_there, trimmed_further, unknown_agent

__all__ = ["events_to_go"]


def events_to_go(agent: str, head: Head | None, known: Base | None, items: Sequence[bytes], base: Base) -> int:
    """How many events a trimming up to `base` removes; 0: it was done before. `known` is the base there is.

    The same questions, in the same order, as `trim.lua`. Raises what `EventLog.trim` raises.
    """
    if head is None:
        raise unknown_agent(agent)
    count = base.seq - head.base
    if count < 0:
        raise trimmed_further(agent, base.seq, head.base)
    if count == 0:
        if known != base:
            raise not_there(agent, base)
    elif head.base + len(items) != head.seq:
        raise CorruptEvent(NOT_FITTING.format(agent), agent=agent)
    elif count > len(items) or items[count - 1][:DIGEST_SIZE] != base.digest:
        raise not_there(agent, base)
    return count
