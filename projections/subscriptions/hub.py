"""All subscriptions of one system: they share a thread that reads, and pools for callbacks and for catching up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from time import monotonic
from typing import Any, Final, cast

from attrs import field, frozen

from duramen.events import (
    Cursor,
    Diverged,
    EventRegistry,
    InvalidMessage,
    Limits,
    SystemClosed,
)
from duramen.events.feed import end_marks
from duramen.events.log import EventLog
from duramen.events.model import START, Mark

from ..notifications import EventFilter
from .callbacks import Callbacks
from .change import Change, Source
from .delivery import Delivery
from .erasures import named_agents, place_of
from .follower import Follower
from .intake import Intake
from .subscription import Subscription

Callback = Callable[[Change], Any] | Callable[[list[Change]], Any]
"""A plain function or an `async def` of one argument: a change, or with `batches=True` a list of them."""

_HEARTBEAT: Final = 1.0
_MOST_ERRORS: Final = 100


@frozen(kw_only=True, eq=False, repr=False)
class Pools:
    """Where a hub's work runs. The work of `call` may block for long, that of `read` as long as a server may."""

    call: Callable[[Callable[[], None]], None]
    read: Callable[[Callable[[], None]], None]
    start: Callable[[Coroutine[Any, Any, Any]], Future[Any]]
    """Starts a coroutine on an event loop that runs in a thread of its own."""


@frozen(kw_only=True)
class HubStatus:
    """The state of this process's subscriptions."""

    subscriptions: int = 0
    lag: int = 0
    """The greatest of all subscriptions."""
    strange_messages: int = 0
    """Notices that were not understood, or proved false: another program publishes on the channels."""
    errors: dict[str, str] = field(factory=dict[str, str])
    """By pattern: the type of the error that its subscription has ended with, for the last hundred."""


@frozen(kw_only=True, eq=False, repr=False)
class _Runs:
    """A hub's pools and the clock of its thread, for callbacks."""

    submit: Callable[[Callable[[], None]], None]
    start: Callable[[Coroutine[Any, Any, Any]], Future[Any]]
    at: Callable[[float, Callable[[], None]], None]


class Hub:
    """Makes subscriptions. Thread-safe. Its thread starts with the first of them and ends with the last."""

    def __init__(
        self,
        log: EventLog,
        registry: EventRegistry,
        limits: Limits,
        pools: Pools,
        *,
        heartbeat: float = _HEARTBEAT,
    ) -> None:
        self._source = Source(log, registry, limits)
        self._pools = pools
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._subscriptions: dict[Subscription, Intake] = {}
        self._follower: Follower | None = None
        self._stopped: list[Follower] = []
        self._strange = 0
        self._errors: dict[str, str] = {}
        self._closed: str | None = None

    def subscribe(
        self,
        event_filter: EventFilter,
        callback: Callback | None,
        delivery: Delivery,
        *,
        after: Cursor | None = None,
        from_start: bool = False,
    ) -> Subscription:
        """As `AgentSystem.subscribe`, which says what each argument means."""
        if callback is not None and not callable(callback):
            raise InvalidMessage("callback takes a function of one argument", actual=type(callback).__name__)
        marks, at_end = self._begin_at(event_filter, after, from_start)
        intake = Intake(self._source, event_filter, delivery, marks, at_end=at_end)
        self._expect_erasures(intake, event_filter, after)
        with self._lock:
            if self._closed is not None:
                raise SystemClosed(self._closed)
            follower = self._follower or self._new_follower()
            runs = _Runs(submit=self._pools.call, start=self._pools.start, at=follower.at)
            function = cast("Callable[[Any], Any] | None", callback)
            calls = None if function is None else Callbacks(intake, function, runs)
            subscription = Subscription(intake, calls, self._leave)
            self._subscriptions[subscription] = intake
            follower.add(intake)
        return subscription

    def note_erasure(self) -> None:
        """Let subscriptions find out now that agents were erased; a heartbeat would find it within a second."""
        with self._lock:
            follower = self._follower
        if follower is not None:
            follower.beat()

    def status(self) -> HubStatus:
        """Counts, and the errors of subscriptions that have ended."""
        with self._lock:
            follower, subscriptions = self._follower, list(self._subscriptions)
            strange = self._strange + (follower.strange if follower else 0)
            errors = dict(self._errors)
        ended = {known.pattern.text: type(known.error).__name__ for known in subscriptions if known.error is not None}
        return HubStatus(
            subscriptions=len(subscriptions),
            lag=max((subscription.lag for subscription in subscriptions), default=0),
            strange_messages=strange,
            errors=errors | ended,
        )

    def close(self, timeout: float) -> bool:
        """End all subscriptions; whether everything has ended within `timeout` seconds. No callback starts then."""
        deadline = monotonic() + timeout
        with self._lock:
            self._closed = "the system is closed; open a new one"
            known = list(self._subscriptions)
        for subscription in known:
            subscription.close(0.0)
        ended = [subscription.close(max(0.0, deadline - monotonic())) for subscription in known]
        with self._lock:
            followers = [*self._stopped, *filter(None, (self._follower,))]
        return all([*ended, *(follower.wait(max(0.0, deadline - monotonic())) for follower in followers)])

    def after_fork(self, message: str) -> None:
        """End all subscriptions, in a forked child: their threads live in the parent. Iterators raise SystemClosed."""
        self._lock = threading.Lock()
        self._closed = message
        self._follower = None
        for subscription in self._subscriptions:
            subscription.after_fork(SystemClosed(message))
        self._subscriptions = {}

    def _begin_at(
        self, event_filter: EventFilter, after: Cursor | None, from_start: bool
    ) -> tuple[dict[int, Mark], bool]:
        """The mark that each partition is read from, and whether that is its end. Raises InvalidMessage, Diverged."""
        log = self._source.log
        partitions = event_filter.partitions(log)
        if after is not None and not isinstance(cast("object", after), Cursor):
            raise InvalidMessage("after takes a Cursor; see Cursor.from_text", actual=type(after).__name__)
        if after is not None and from_start:
            raise InvalidMessage("give either after or from_start")
        if after is not None and after.log != log.identity:
            raise Diverged(
                "this cursor is of another log: the namespace was made again, or it is another one; start again",
                expected=after.log,
                actual=log.identity,
            )
        if after is not None or from_start:
            return {partition: after.marks.get(partition, START) if after else START for partition in partitions}, False
        # Everything committed from here on comes after these positions, whenever the hub begins to read.
        return end_marks(log, partitions), True

    def _expect_erasures(self, intake: Intake, event_filter: EventFilter, after: Cursor | None) -> None:
        """Have it told of erasures of agents that its pattern names: later ones than this call, or than a cursor."""
        named = named_agents(event_filter) if intake.watch.is_wanted else []
        if not named:
            return
        [partition] = intake.partitions
        mark = START if after is None else after.marks.get(partition, START)
        before = self._source.log.erased_agents(partition, named) if after is None else {}
        for agent in named:
            # One that was erased with nothing after it is as far as a mark of its last event, and of any other.
            since = place_of(mark) + (mark.agent != agent) if after is not None else before.get(agent, -1) + 1
            intake.watch.expect(agent, partition, since)

    def _new_follower(self) -> Follower:
        self._stopped = [follower for follower in self._stopped if not follower.wait(0.0)]
        self._follower = Follower(self._source, self._pools.read, self._heartbeat)
        self._follower.start()
        return self._follower

    def _leave(self, subscription: Subscription) -> None:
        with self._lock:
            intake, follower = self._subscriptions.pop(subscription, None), self._follower
            if intake is None or follower is None:
                return
            if subscription.error is not None:
                self._note(subscription.pattern.text, subscription.error)
            follower.remove(intake)
            if not self._subscriptions:
                self._strange += follower.strange
                self._follower = None
                self._stopped.append(follower)
                follower.stop()

    def _note(self, pattern: str, error: BaseException) -> None:
        self._errors.pop(pattern, None)
        self._errors[pattern] = type(error).__name__
        if len(self._errors) > _MOST_ERRORS:
            del self._errors[next(iter(self._errors))]
