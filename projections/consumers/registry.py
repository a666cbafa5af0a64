"""The durable consumers of a log: those that run here, and all that are stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from attrs import field, frozen

from duramen.events import Cursor, EventRegistry, InvalidMessage, Limits, SystemClosed, Trimmed, Unavailable
from duramen.events.codec import to_datetime
from duramen.events.log import LIVE, ConsumerRecord, ConsumerRequest, ConsumerStore, EventLog, Failure, check_name

from ..notifications import EventFilter, ListenerPool
from ..projection import Attachable
from .consumer import ERASE, REBUILD, RETRY, SKIP
from .plan import PARKED, STANDBY, plan_of
from .runner import Runner
from .standby import SharedConsumer

V = TypeVar("V")

_TRIES: Final = 100


@frozen(kw_only=True)
class ConsumerInfo:
    """A consumer as it is stored, whether or not it runs anywhere.

    `status` is the one that it last stored, at `updated_at`: a killed consumer stays `live`, and its `lag` (appends not
    done with) grows. `building` is the view that is being built to replace this one.
    """

    name: str
    kind: str
    version: int
    scope: str
    status: str
    lag: int
    position: int
    """Appends that are done with; with `lag`, all there are."""
    applied: int
    skipped: int
    skips: tuple[tuple[str, int], ...]
    error: Failure | None
    updated_at: datetime
    building: ConsumerInfo | None = None
    lags: Mapping[int, int] = field(factory=dict[int, int])
    """The `lag` of each partition that it reads."""


class Consumers:
    """Thread-safe. Only `attach` needs the code of a projection: the other calls go through the store."""

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits) -> None:
        self._log = log
        self._registry = registry
        self._limits = limits
        self._listeners = ListenerPool(log)
        self._lock = threading.Lock()
        self._running: dict[str, Runner[Any]] = {}
        self._closed: str | None = None
        self.host: Callable[[], str] = lambda: ""
        """The host of this process, which the tokens of its consumers name; "" where there is none."""

    def attach(
        self,
        projection: Attachable[V],
        name: str,
        event_filter: EventFilter,
        *,
        after: Cursor | None = None,
        standby: bool = False,
    ) -> Runner[V]:
        """As `AgentSystem.attach`."""
        if type(cast("object", standby)) is not bool:
            raise InvalidMessage("standby is True or False", actual=type(standby).__name__)
        plan = plan_of(
            self._log,
            self._registry,
            self._limits,
            projection=projection,
            name=name,
            event_filter=event_filter,
            after=after,
            owner=self._new_owner(),
        )
        with self._lock:
            if self._closed is not None:
                raise SystemClosed(self._closed)
            known = self._running.get(name)
            if known is not None and not known.ended:
                raise InvalidMessage(f"consumer {name} is attached to this system already; close that runner first")
            shared = SharedConsumer(plan, self._new_owner, self._lives_elsewhere) if standby else None
            runner = Runner[V](plan, self._listeners.open(plan.partitions, event_filter.level), shared)
            self._running[name] = runner.start()
            return runner

    def lags(self) -> dict[str, int]:
        """Return the lag of each consumer that runs here, by name; asks the log once. Raises Unavailable."""
        with self._lock:
            runners = sorted(self._running.items())
            running = {name: one for name, one in runners if not one.ended and one.status != STANDBY}
        ends = self._log.positions() if running else []
        return {name: runner.lag_behind(ends) for name, runner in running.items()}

    def list(self) -> list[ConsumerInfo]:
        """All consumers, by name. Raises Unavailable."""
        records = self._log.consumer_store().records()
        ends = self._log.positions()
        live = {record.name: record for record in records if record.slot == LIVE}
        building = {record.name: record for record in records if record.slot != LIVE}
        return [
            self._info(live.get(name) or building[name], ends, building.get(name) if name in live else None)
            for name in sorted({*live, *building})
        ]

    def get(self, name: str) -> ConsumerInfo:
        """One consumer. Raises InvalidMessage if there is none of this name."""
        for info in self.list():
            if info.name == name:
                return info
        raise _unknown(name)

    def retry(self, name: str) -> None:
        """Ask a parked consumer to try again, wherever it runs. Raises InvalidMessage for one that is not parked."""
        self._parked(name)
        self._request(name, RETRY)

    def skip(self, name: str) -> tuple[str, int]:
        """Ask a parked consumer to skip the event it is parked at; returns agent and seq of that event.

        Its runner does so within a second or so; where none runs, the next one does. Raises InvalidMessage if it is
        not parked at an event that can be skipped.
        """
        failure = self._parked(name)
        if not failure.can_skip or failure.agent is None or failure.seq is None:
            raise InvalidMessage(f"consumer {name} is parked by {failure.error}: no event can be skipped to go on")
        self._request(name, SKIP, failure.agent, failure.seq)
        return failure.agent, failure.seq

    def rebuild(self, name: str) -> None:
        """Ask the consumer to rebuild its view, wherever it runs. Raises InvalidMessage for an unknown one."""
        self._request(name, REBUILD)

    def remove(self, name: str) -> None:
        """Forget a consumer and its views. Its runner is fenced; attached again, it starts from the beginning.

        Raises InvalidMessage for an unknown one. A sink's tables stay as they are.
        """
        if not self._log.consumer_store().remove(check_name(name)):
            raise _unknown(name)

    def close(self, timeout: float) -> bool:
        """End the consumers that run here; whether all have ended within `timeout` seconds."""
        deadline = monotonic() + timeout
        with self._lock:
            self._closed = "the system is closed; open a new one"
            running = list(self._running.values())
        for runner in running:
            runner.stop()
        ended = [runner.close(max(0.0, deadline - monotonic())) for runner in running]
        return self._listeners.close(max(0.0, deadline - monotonic())) and all(ended)

    def after_fork(self, message: str) -> None:
        """End the runners, in a forked child: their threads live in the parent."""
        self._lock = threading.Lock()
        self._closed = message
        for runner in self._running.values():
            runner.after_fork(message)
        self._running = {}
        self._listeners.after_fork()

    def _new_owner(self) -> str:
        return f"{self.host()}.{uuid4().hex}"

    def _lives_elsewhere(self, host: str) -> bool:
        """Whether this names another host than this one, that has not ended. Raises Unavailable."""
        if not host or host == self.host():
            return False
        found = self._log.hosts.find(host)
        return found is not None and not found.has_ended

    def _parked(self, name: str) -> Failure:
        stored = self._log.consumer_store().find(check_name(name))
        records = [record for record in (stored.next, stored.live) if record is not None]
        if not records:
            raise _unknown(name)
        for record in records:
            if record.status == PARKED and record.failure is not None:
                return record.failure
        raise InvalidMessage(f"consumer {name} is not parked: it is {records[-1].status}", actual=records[-1].status)

    def _request(self, name: str, what: str, agent: str | None = None, seq: int | None = None) -> None:
        request = ConsumerRequest(uuid4().hex, what, agent, seq)
        if not leave_request(self._log.consumer_store(), check_name(name), request):
            raise _unknown(name)

    def _info(self, record: ConsumerRecord, ends: Sequence[int], building: ConsumerRecord | None) -> ConsumerInfo:
        marks = record.cursor.marks
        places = {
            number: marks[number].position if number in marks else 0
            for number in EventFilter.from_text(record.scope).partitions(self._log)
        }
        lags = {number: max(0, ends[number] - position) for number, position in places.items()}
        return ConsumerInfo(
            name=record.name,
            kind=record.kind,
            version=record.version,
            scope=record.scope,
            status=record.status,
            lag=sum(lags.values()),
            position=sum(places.values()),
            applied=record.applied,
            skipped=record.skipped,
            skips=record.skips,
            error=record.failure,
            updated_at=to_datetime(record.updated_at),
            building=None if building is None else self._info(building, ends, None),
            lags=lags,
        )


def request_erasures(log: EventLog, partition: int, agents: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ask the consumers that have read these agents to take them out of their views, or to rebuild these.

    Second come those that may not be able to: of sinks, and of feeds whose beginning was trimmed. Without agents, all
    that read the partition are asked to rebuild, and sinks nothing.
    """
    asked: set[str] = set()
    doubtful: set[str] = set()
    store = log.consumer_store()
    for record in store.records():
        event_filter = EventFilter.from_text(record.scope)
        matches = event_filter.agent_matcher()
        concerned = list(agents) if matches is None else list(filter(matches, agents))
        if (
            record.kind == "reactor"
            or partition not in event_filter.partitions(log)
            or (agents and not concerned)
            or record.name in asked | doubtful
        ):
            continue
        is_sink = record.kind == "sink"
        if concerned or not is_sink:
            what = ERASE if is_sink else REBUILD
            leave_request(store, record.name, ConsumerRequest(uuid4().hex, what, "\n".join(concerned)))
        is_whole = not is_sink and _has_whole_feeds(log, event_filter)
        (asked if is_whole else doubtful).add(record.name)
    return sorted(asked), sorted(doubtful)


def leave_request(store: ConsumerStore, name: str, request: ConsumerRequest) -> bool:
    """Leave a request for a consumer; False if there is none. One that waits to erase or to rebuild is not lost by it.

    Raises Unavailable for a request to retry or skip while one of these waits.
    """
    for _ in range(_TRIES):
        stored = store.find(name)
        if stored.live is None and stored.next is None:
            return False
        merged = _merged(name, stored.request, request)
        if store.replace_request(name, stored.request, merged):
            return True
    raise Unavailable(f"others keep asking consumer {name} for something; try again")


def _merged(name: str, waiting: ConsumerRequest | None, request: ConsumerRequest) -> ConsumerRequest:
    """A request that stands for both. It has a new id: the one that waits may be under way already."""
    if waiting is None or waiting.what not in (REBUILD, ERASE):
        return request
    if request.what not in (waiting.what, REBUILD, ERASE) or (waiting.what, request.what) == (ERASE, REBUILD):
        raise Unavailable(f"consumer {name} has a request to {waiting.what} to carry out before; try again")
    if waiting.agent and request.agent:
        agents = dict.fromkeys([*waiting.agent.split("\n"), *request.agent.split("\n")])
        return ConsumerRequest(request.id, request.what, "\n".join(agents))
    of_view = request.what == REBUILD and (waiting.agent, request.agent) != (None, None)
    return ConsumerRequest(request.id, REBUILD, "" if of_view else None)


def _has_whole_feeds(log: EventLog, event_filter: EventFilter) -> bool:
    try:
        log.feed_pages([(partition, 0, 1) for partition in event_filter.partitions(log)])
    except Trimmed:
        return False
    return True


def _unknown(name: str) -> InvalidMessage:
    return InvalidMessage(f"no consumer of the name {name} was ever attached here")
