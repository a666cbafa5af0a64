"""Loads the windows of one partition one after the other, each while its reader works on the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define

from ..errors import DuramenError
from ..log import FeedPage, FeedRequest, FeedSource, ReadAhead, Span, SpanEvents
from ..model import Mark
from .feed_entries import FIELDS, FeedEntries
from .last_digests import LastDigests
from .window import EntriesOutdated, Window, Windows
from .window_plan import Plan

_LEAST: Final = 64
_MOST: Final = 16_384
"""Entries. The longer a window of many agents, the more of its events follow another of the same agent."""
_AFTER_RELEASE: Final = 512
_EVENTS: Final = 16_384
_BYTES: Final = 4 * 1024 * 1024
"""Target size of a window, estimated from the previous ones; a single window may exceed it, up to a limit."""
_GROWTH: Final = 8
"""Times the window before: working on that one takes longer than fetching so much more."""


@define(eq=False)
class _WindowSize:
    """Entries of the next window, and the most that an average window may have."""

    entries: int = _LEAST
    most: int = _LEAST

    def grow(self, count: int, window: Window) -> None:
        """Grow after a full window of `count` entries: larger windows hold more events of each agent."""
        fitting = min(_BYTES * count // (window.size + 1), _EVENTS * count // (window.count + 1))
        self.most = max(_LEAST, min(_MOST, fitting))
        self.entries = min(self.entries * _GROWTH, self.most)


class WindowLoader:
    """Loads windows of events of granularity `level` or less, of agents that `wants` accepts. Used by one thread."""

    def __init__(
        self,
        log: FeedSource,
        partition: int,
        *,
        level: int,
        end: int = 0,
        wants: Callable[[str], bool] | None = None,
        known: LastDigests | None = None,
    ) -> None:
        self._log = log
        self._partition = partition
        self._windows = Windows(log, partition, (2 << level) - 2, wants, LastDigests() if known is None else known)
        self._entries = FeedEntries(log, partition, end)
        self._size = _WindowSize()
        self._ahead: ReadAhead | None = None
        self._planned: Plan | None = None
        """Of the window that was requested ahead."""
        self._provided: Sequence[SpanEvents | None] = ()
        self.confirmed = False
        """Whether the log was seen to have the event of the first mark."""
        self.erasures = 0
        """How often entries of the feed had been made nobody's when the last window, or the end, was read."""

    @property
    def end(self) -> int:
        """Where the feed ended when it was last read."""
        return self._entries.end

    @property
    def has_request(self) -> bool:
        """Whether a window was requested ahead and not loaded."""
        return self._planned is not None

    def load(self, mark: Mark, *, ahead: bool) -> Window | None:
        """The window after the mark; None at the end of the feed. With `ahead` the next one is requested, too.

        Raises Diverged, DataLoss, Trimmed, CorruptEvent, and what reading raises; an event that is damaged is the
        window's `problem`.
        """
        plan, provided = self._collect(mark)
        while True:
            plan = plan or self._plan_next(mark)
            if plan is None:
                if not self.confirmed:
                    self._windows.confirm(mark)
                    self.confirmed = True
                self.erasures = self._entries.erasures
                return None
            try:
                window = self._windows.load(plan, provided)
                break
            except EntriesOutdated:
                self._entries.clear()
                self._entries.clear_prefetched()
                plan, provided = None, ()
        self.confirmed, self.erasures = True, plan.erasures
        count = plan.end - plan.mark.position
        if count >= self._size.entries:
            self._size.grow(count, window)
        if ahead:
            self._request_ahead(window)
        return window

    def send_more(self) -> None:
        """Send the next part of what was requested ahead."""
        if self._ahead is not None:
            self._ahead.send_more()

    def send_all(self) -> None:
        """Send all that was requested ahead."""
        if self._ahead is not None:
            self._ahead.send_all()

    def finish(self, mark: Mark) -> None:
        """Wait for what was requested ahead, and release its connection, which others need."""
        self._collect(mark)
        self.release()

    def drop(self) -> None:
        """Forget what was fetched or requested."""
        self._planned, self._provided = None, ()
        self._entries.clear()

    def release(self) -> None:
        """Release the connection, and begin with smaller windows."""
        self._entries.clear_prefetched()
        self._size.entries = min(self._size.entries, _AFTER_RELEASE)
        if self._ahead is not None:
            self._ahead.close()

    def start_sized_like(self, other: WindowLoader) -> None:
        """Begin with windows nearly as large as another loader's: the first one cannot be requested ahead."""
        self._size = _WindowSize(max(_LEAST, other._size.most // _GROWTH), other._size.most)

    def skip_to(self, end: int) -> None:
        """Note that a window was read elsewhere, when the feed ended at `end`."""
        self._entries.clear()
        self._entries.end = max(self.end, end)
        self.confirmed = True

    def note_end(self, end: int) -> None:
        self._entries.end = max(self.end, end)

    # -- together with other partitions ------------------------------------------------------------------------------

    def next_request(self, mark: Mark) -> FeedRequest | None:
        """What it would ask its feed for next, if that is little. An earlier prefetched page is dropped."""
        self._entries.clear_prefetched()
        much = self.end - mark.position > _LEAST or self._size.entries > _AFTER_RELEASE
        if much or self.has_request or len(self._entries):
            return None
        return self._partition, mark.position, self._size.entries

    def plan_with(self, request: FeedRequest, page: FeedPage, mark: Mark) -> list[Span]:
        """The events to fetch for the page of `next_request`; none where the loader has to read by itself."""
        self._entries.prefetched(request, page)
        try:
            self._planned = self._plan_next(mark)
        except DuramenError:  # raised again when this is read
            return []
        if self._planned is None:
            self._entries.prefetched(request, page)  # the next reading finds the end in it
            return []
        return [job.span() for job in self._planned.jobs]

    def provide(self, found: Sequence[SpanEvents | None]) -> None:
        """The events of the spans of `plan_with`: all that was asked for, or None."""
        self._provided = found

    # -- planning ----------------------------------------------------------------------------------------------------

    def _plan_next(self, mark: Mark, count: int | None = None) -> Plan | None:
        fields: list[Any] = self._entries.read_from(mark, count or self._size.entries)
        if not fields:
            return None
        plan = self._windows.plan(
            FeedPage(fields[: FIELDS * self._size.entries], self.end, self._entries.erasures), mark
        )
        self._entries.keep(fields[FIELDS * (plan.end - mark.position) :], plan.end)
        return plan

    def _request_ahead(self, window: Window) -> None:
        """Request the window after this one, and the entries after that."""
        if self.end <= window.end or window.ready < window.count or window.last is None:
            return
        if self._ahead is None:
            self._ahead = self._log.read_ahead(self._partition)
        if self._ahead is None:
            return
        mark = Mark(window.end, 0, *window.last)
        try:
            plan = self._planned = self._plan_next(mark, min(self.end - window.end, self._size.entries))
        except DuramenError:  # raised again when this is read
            return
        if plan is None:
            return
        there = len(self._entries)
        wanted = max(0, min(self._size.entries * _GROWTH, self._size.most, self.end - plan.end) - there)
        self._ahead.request([job.span() for job in plan.jobs], plan.end + there, wanted, 2 * _BYTES)

    def _collect(self, mark: Mark) -> tuple[Plan | None, Sequence[SpanEvents | None]]:
        """The window that was requested ahead, if it follows the mark, and the events found for it."""
        plan, self._planned = self._planned, None
        found, self._provided = self._provided, ()
        if plan is None:
            return None, ()
        if self._ahead is not None and not found:
            found, page = self._ahead.collect()
            if page is not None:
                self._entries.add(page)
        return (plan, found) if plan.mark == mark else (None, ())
