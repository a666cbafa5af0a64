"""The entries of one partition's feed, read ahead of the events that they name."""

from __future__ import annotations

from typing import Any, Final

from ..errors import DataLoss, Diverged
from ..log import FeedPage, FeedRequest, FeedSource
from ..model import Mark

FIELDS: Final = 4
"""Elements of `FeedPage.fields` an entry."""
_PAGE: Final = 2_000


class FeedEntries:
    """Reads entries in pages, and keeps those that no window has used yet. Used by one thread at a time."""

    def __init__(self, log: FeedSource, partition: int, end: int) -> None:
        self._log = log
        self._partition = partition
        self._fields: list[Any] = []
        """Of the entries that are read already, as in `FeedPage.fields`."""
        self._position = 0
        """The feed position before them."""
        self.erasures = 0
        """How often entries of the feed had been made nobody's when these were read."""
        self._prefetched: tuple[FeedRequest, FeedPage] | None = None
        self.end = end
        """Where the feed ended when it was last read."""

    def __len__(self) -> int:
        return len(self._fields) // FIELDS

    def read_from(self, mark: Mark, count: int) -> list[Any]:
        """The fields of at least `count` entries after a mark, fewer at the end of the feed; they are kept no longer.

        Raises DataLoss where the feed ends before the mark, Diverged where the mark does not fit its entry, and what
        reading raises.
        """
        known = self._position == mark.position and not mark.offset
        fields, self._fields = self._fields if known else [], []
        there = len(fields) // FIELDS
        while there < count:
            asked = min(_PAGE, count - there)
            page = self._page((self._partition, mark.position + there, asked))
            self.end = page.end
            outdated, self.erasures = page.erasures != self.erasures, page.erasures
            if outdated and there:  # those read before may name an agent that was erased meanwhile
                fields, there = [], 0
                continue
            fields += page.fields
            there += len(page.fields) // FIELDS
            if len(page.fields) < FIELDS * asked:
                break
        self._check_mark(mark, fields)
        return fields

    def keep(self, fields: list[Any], position: int) -> None:
        """Keep entries that follow a position for the next window."""
        self._fields, self._position = fields, position

    def add(self, page: FeedPage) -> None:
        """Keep a page that follows the entries kept."""
        if page.erasures == self.erasures:
            self._fields += page.fields
        self.end = max(self.end, page.end)

    def prefetched(self, request: FeedRequest, page: FeedPage) -> None:
        """Use this page in place of the reading that would make the same request."""
        self._prefetched = (request, page)

    def clear(self) -> None:
        self._fields = []

    def clear_prefetched(self) -> None:
        self._prefetched = None

    def _page(self, request: FeedRequest) -> FeedPage:
        prefetched, self._prefetched = self._prefetched, None
        return prefetched[1] if prefetched and prefetched[0] == request else self._log.feed_page(*request)

    def _check_mark(self, mark: Mark, fields: list[Any]) -> None:
        if self.end < mark.position + (mark.offset > 0):
            raise DataLoss(
                f"the feed of partition {self._partition} ends at {self.end}, but was read up to {mark.position} here: "
                "the server lost what it had acknowledged, or is another; start again from the beginning",
                expected=mark.position,
                actual=self.end,
            )
        if mark.offset:
            agent, first, count, _ = fields[:FIELDS]
            if agent and (mark.offset >= count or (agent, first + mark.offset - 1) != (mark.agent, mark.seq)):
                raise Diverged(
                    f"entry {mark.position + 1} of the feed of partition {self._partition} is another than the one "
                    "read here: the log was replaced, restored or failed over; start again from the beginning",
                    agent=mark.agent,
                    seq=mark.seq,
                )
