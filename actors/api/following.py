"""Telling others, as it happens, what agents do."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Final, TypeVar

from duramen.events import Cursor, EventRegistry, Granularity, Limits, PathPattern
from duramen.events.log import EventLog
from duramen.events.model import Mark
from duramen.projections import ConsumerInfo, Consumers, Runner, Subscription
from duramen.projections.notifications import Category
from duramen.projections.projection import Attachable
from duramen.projections.subscriptions import Callback, Hub, HubStatus, OnError, Pools

from ..dispatch import EventLoop, ThreadPool
from .reading import Reading

__all__ = ["Following"]

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
        self._consumers = Consumers(log, registry, limits)

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
        every: float | None = None,
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

        From where: `after` continues behind a subscription's `cursor`; `from_start` begins with the first event.

        How: `latest_only` drops changes that newer ones of the same paths have overtaken before they were delivered;
        `every` delivers in bursts, so many seconds apart at least; `batches` calls back with lists. At most `buffer`
        changes wait in memory: who is slower catches up from the log.

        A callback that raises is logged, counted and told to `on_error(error, change)`; the next change comes all the
        same, or none does, with `stop_on_failure`. `on_error(error, None)` tells why the subscription has ended.

        Raises InvalidPath, InvalidMessage, Diverged for a cursor of another log, SystemClosed, Unavailable.
        """
        return self._hub.subscribe(
            pattern,
            callback,
            granularity=granularity,
            categories=categories,
            types=types,
            after=after,
            from_start=from_start,
            values=values,
            latest_only=latest_only,
            every=every,
            batches=batches,
            buffer=buffer,
            on_error=on_error,
            stop_on_failure=stop_on_failure,
        )

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
    ) -> Runner[V]:
        """Keep the view of a projection up to date under a durable name: it goes on where it was stored last.

        `agents` is a pattern of agent paths. `granularity` is the highest level it is given, `categories` names the
        levels one by one instead, `types` the types of events. With other ones than before, or another `version` of
        the projection, the view is built anew, beside the one that is stored. A view that is begun starts with the
        first event there ever was, or behind `after`: a subscription's `cursor`, or `system.cursor()` for now.

        One runner keeps a name: attached again elsewhere, the one before is fenced. Views are stored in the log's
        server; a `Sink` keeps its own. Raises InvalidMessage, InvalidPath, Unavailable, SystemClosed; what the
        projection raises later parks the runner.
        """
        return self._consumers.attach(
            projection,
            name,
            agents=agents,
            granularity=granularity,
            categories=categories,
            types=types,
            after=after,
        )

    def cursor(self) -> Cursor:
        """A place behind all that is committed now: what is told to begin `after` it needs nothing from before.

        So `attach(…, after=system.cursor())` makes a new consumer of a log whose beginning was trimmed. Raises
        Unavailable.
        """
        ends = enumerate(self._log.positions())
        return Cursor(self._log.identity, {partition: Mark(end) for partition, end in ends if end})

    def projections(self) -> list[ConsumerInfo]:
        """All durable consumers in the store, by name, wherever they run."""
        return self._consumers.list()

    @property
    def consumers(self) -> Consumers:
        """The durable consumers, to look at and to repair by hand."""
        return self._consumers

    def sharing_status(self) -> HubStatus:
        """How many subscriptions there are, how far behind, and what has gone wrong."""
        return self._hub.status()

    def _close_sharing(self, timeout: float) -> bool:
        """End all that follows; whether every thread of it has ended within `timeout` seconds."""
        deadline = monotonic() + timeout
        self._consumers.close(timeout)
        self._hub.close(timeout)
        callbacks = self._callbacks.close(max(0.0, deadline - monotonic()))
        return self._readers.close(max(0.0, deadline - monotonic())) and callbacks

    def _forget_sharing(self, message: str) -> None:
        """In a forked child."""
        self._hub.after_fork(message)
        self._consumers.after_fork(message)
