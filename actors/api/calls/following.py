"""Following what agents do: subscriptions and durable consumers."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Final, TypeVar

from duramen.events import Cursor, EventRegistry, Granularity, Limits, PathPattern
from duramen.events.feed import end_marks
from duramen.events.log import EventLog
from duramen.events.model import Seconds
from duramen.projections import ConsumerInfo, Consumers, Runner, Subscription
from duramen.projections.notifications import Category, EventFilter
from duramen.projections.projection import Attachable
from duramen.projections.subscriptions import Callback, Delivery, Hub, HubStatus, OnError, Pools

from ...dispatch import EventLoop, ThreadPool
from .reading import Reading

V = TypeVar("V")

_MOST_CALLBACKS: Final = 256
_MOST_READERS: Final = 8


class Following(Reading):
    """The part of a system that follows the log. Thread-safe; runs no agent, and slows none."""

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits, loop: EventLoop) -> None:
        super().__init__(log, registry, limits, loop)
        self._callbacks = ThreadPool("subscriber", _MOST_CALLBACKS)
        self._readers = ThreadPool("catch-up", _MOST_READERS)
        pools = Pools(call=self._callbacks.submit, read=self._readers.submit, start=loop.start)
        self._hub = Hub(log, registry, limits, pools)

    def subscribe(
        self,
        pattern: str | PathPattern,
        callback: Callback | None = None,
        *,
        granularity: Granularity = Granularity.STATE,
        categories: Iterable[Category] | None = None,
        types: Iterable[str] | None = None,
        after: Cursor | None = None,
        from_start: bool = False,
        values: bool = False,
        latest_only: bool = False,
        every: Seconds | None = None,
        batches: bool = False,
        buffer: int = 1_000,
        on_error: OnError | None = None,
        stop_on_failure: bool = False,
    ) -> Subscription:
        """Follow what agents do, from now on: what is committed after this call has returned is delivered.

        `pattern` is matched by agent path and property path joined: `acme/*/plan/**`, `**/status`; events that
        change no property by the agent path alone. `callback` takes each `Change`; without one, iterate.

        What: `granularity` is the highest level delivered; `categories` names the levels one by one instead, and
        `types` the types of events. `values` adds old and new values, which are computed from the log.

        From where: `after` continues after a subscription's `cursor`; `from_start` begins with the first event.

        How: `latest_only` drops changes that newer ones of the same paths have overtaken before they were delivered;
        `every` delivers in bursts, so many seconds apart at least; `batches` calls back with lists. At most `buffer`
        changes wait in memory: a slower subscription catches up from the log.

        If a callback raises, the error is logged, counted and passed to `on_error(error, change)`; the next change
        comes all the same, or none does, with `stop_on_failure`. `on_error(error, None)` is called at the end of a
        subscription, with the reason.

        Raises InvalidPath, InvalidMessage, Diverged for a cursor of another log, SystemClosed, Unavailable.
        """
        delivery = Delivery(
            values=values,
            latest_only=latest_only,
            every=every,
            batches=batches,
            buffer=buffer,
            on_error=on_error,
            stop_on_failure=stop_on_failure,
        )
        event_filter = EventFilter.parse(pattern, granularity, categories, types)
        return self._hub.subscribe(event_filter, callback, delivery, after=after, from_start=from_start)

    def attach(
        self,
        projection: Attachable[V],
        name: str,
        *,
        agents: str | PathPattern = "**",
        granularity: Granularity = Granularity.TRACE,
        categories: Iterable[Category] | None = None,
        types: Iterable[str] | None = None,
        after: Cursor | None = None,
        standby: bool = False,
    ) -> Runner[V]:
        """Keep the view of a projection up to date under a durable name: it goes on where it was stored last.

        `agents` is a pattern of agent paths. `granularity` is the highest level it is given, `categories` names the
        levels one by one instead, `types` the types of events. With other ones than before, or another `version` of
        the projection, the view is rebuilt; the stored one is read until then. A new view starts with the first event
        of the log, or after `after`: a subscription's `cursor`, or `system.cursor()` for now.

        A name has one runner: attaching it again elsewhere fences the runner before. With `standby`, this one stands
        by instead while another host that lives has the name: it reads what that one stores, and takes over when that
        one has closed it, or its host has ended. If another takes the name from it, it stands by again.

        Views are stored in the log's server; a `Sink` stores its own. Raises InvalidMessage, InvalidPath, Unavailable,
        SystemClosed; an exception of the projection parks the runner.
        """
        event_filter = EventFilter.parse(agents, granularity, categories, types)
        return self._consumers.attach(projection, name, event_filter, after=after, standby=standby)

    def cursor(self) -> Cursor:
        """The cursor after all that is committed now. Raises Unavailable.

        `attach(…, after=system.cursor())` makes a new consumer of a log whose beginning was trimmed.
        """
        marks = end_marks(self._log, range(self._log.partitions))
        return Cursor(self._log.identity, {partition: mark for partition, mark in marks.items() if mark.position})

    def projections(self) -> list[ConsumerInfo]:
        """All durable consumers in the store, by name, wherever they run."""
        return self._consumers.list()

    @property
    def consumers(self) -> Consumers:
        """The durable consumers, for inspection and repair by hand."""
        return self._consumers

    def sharing_status(self) -> HubStatus:
        """How many subscriptions there are, how far behind they are, and which have failed."""
        return self._hub.status()

    def _close_sharing(self, timeout: float) -> bool:
        """End subscriptions and consumers; whether all their threads have ended within `timeout` seconds."""
        deadline = monotonic() + timeout
        self._consumers.close(timeout)
        self._hub.close(max(0.0, deadline - monotonic()))
        callbacks = self._callbacks.close(max(0.0, deadline - monotonic()))
        return self._readers.close(max(0.0, deadline - monotonic())) and callbacks

    def _runs_sharing_here(self) -> bool:
        """Whether the calling thread delivers changes."""
        return self._callbacks.runs_here() or self._readers.runs_here()

    def _forget_sharing(self, message: str) -> None:
        """End subscriptions and consumers, in a forked child."""
        self._hub.after_fork(message)
        self._consumers.after_fork(message)
