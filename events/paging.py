"""Reading a log page after page: the loop that both logs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .log import Page
from .trimming import unknown_agent

__all__ = ["pages_of"]

_MOST: Final = 1 << 52
"""More events than a log can have: a page's own limit is less."""


def pages_of(
    agent: str,
    from_seq: int,
    to_seq: int | None,
    read: Callable[[int, int], Page | None],
    ask: Callable[[Page, int], None] | None = None,
) -> Iterator[Page]:
    """As `EventLog.pages`. `ask` is told of each page that is not the last, and how many events are wanted after it."""
    while to_seq is None or from_seq <= to_seq:
        page = read(from_seq, _MOST if to_seq is None else to_seq - from_seq + 1)
        if page is None:
            raise unknown_agent(agent)
        if not page.items:
            return
        if to_seq is None:
            to_seq = page.head.seq  # what is appended while reading belongs to the next reading
        from_seq += len(page.items)
        if ask is not None and from_seq <= to_seq:
            ask(page, to_seq - from_seq + 1)
        yield page
