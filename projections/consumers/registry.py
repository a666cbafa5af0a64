"""The durable consumers of a log: those that run here, and what is known of all in the store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

from attrs import frozen

from duramen.events import Cursor, EventRegistry, Granularity, InvalidMessage, Limits, PathPattern, SystemClosed
from duramen.events.codec import to_datetime
from duramen.events.log import LIVE, ConsumerRecord, ConsumerRequest, EventLog, Failure, check_name

from ..notifications import Category, ListenerPool, partitions_of
from ..projection import Attachable
from .attach import attach
from .consumer import PARKED, REBUILD, RETRY, SKIP
from .runner import Runner

__all__ = ["ConsumerInfo", "Consumers"]

V = TypeVar("V")


@frozen(kw_only=True)
class ConsumerInfo:
    """What the store knows of a consumer, wherever it runs, or does not.

    `status` is what it last stored, at `updated_at`: one that was killed stays `live`, and its `lag` (appends not done
    with) grows. `building` is the view that is being built beside, or in place of one of another version.
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


class Consumers:
    """Thread-safe. All but `attach` needs no code of the projections: it goes through the store."""

    def __init__(self, log: EventLog, registry: EventRegistry, limits: Limits) -> None:
        self._log = log
        self._registry = registry
        self._limits = limits
        self._ears = ListenerPool(log)
        self._lock = threading.Lock()
        self._running: dict[str, Runner[Any]] = {}
        self._closed: str | None = None

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
        """As `AgentSystem.attach`."""
        with self._lock:
            if self._closed is not None:
                raise SystemClosed(self._closed)
            known = self._running.get(check_name(name))
            if known is not None and not known.ended:
                raise InvalidMessage(f"consumer {name} is attached to this system already; close that runner first")
            runner = attach(
                self._log,
                projection,
                name,
                agents=agents,
                granularity=granularity,
                categories=categories,
                types=types,
                after=after,
                registry=self._registry,
                limits=self._limits,
                ear=self._ears,
            )
            self._running[name] = runner.start()
            return runner

    def list(self) -> list[ConsumerInfo]:
        """All that are known, by name. Raises Unavailable."""
        records = self._log.consumer_store().records()
        ends = self._log.positions()
        live = {record.name: record for record in records if record.slot == LIVE}
        beside = {record.name: record for record in records if record.slot != LIVE}
        return [
            self._info(live.get(name) or beside[name], ends, beside.get(name) if name in live else None)
            for name in sorted({*live, *beside})
        ]

    def get(self, name: str) -> ConsumerInfo:
        """One of them. Raises InvalidMessage if there is none of this name."""
        for info in self.list():
            if info.name == name:
                return info
        raise _unknown(name)

    def retry(self, name: str) -> None:
        """Ask a parked consumer to try again, wherever it runs. Raises InvalidMessage for one that is not parked."""
        self._parked(name)
        self._wish(name, RETRY)

    def skip(self, name: str) -> tuple[str, int]:
        """Ask a parked consumer to leave out the event it is parked at; agent and seq of that event.

        Obeyed by the runner within a second or so; where none runs, by the next one. Raises InvalidMessage if it is
        not parked at an event that can be left out.
        """
        failure = self._parked(name)
        if not failure.can_skip or failure.agent is None or failure.seq is None:
            raise InvalidMessage(f"consumer {name} is parked by {failure.error}: no event can be skipped to go on")
        self._wish(name, SKIP, failure.agent, failure.seq)
        return failure.agent, failure.seq

    def rebuild(self, name: str) -> None:
        """Ask for the view to be built anew, by whoever runs the consumer. Raises InvalidMessage for an unknown one."""
        self._wish(name, REBUILD)

    def remove(self, name: str) -> None:
        """Forget a consumer and its views. Whoever runs it is fenced; attached again, it starts from the beginning.

        Raises InvalidMessage for an unknown one. A sink's tables stay as they are.
        """
        if not self._log.consumer_store().remove(check_name(name)):
            raise _unknown(name)

    def close(self, timeout: float) -> bool:
        """End those that run here; whether all have ended within `timeout` seconds."""
        deadline = monotonic() + timeout
        with self._lock:
            self._closed = "the system is closed; open a new one"
            running = list(self._running.values())
        for runner in running:
            runner.stop()
        ended = [runner.close(max(0.0, deadline - monotonic())) for runner in running]
        return self._ears.close(max(0.0, deadline - monotonic())) and all(ended)

    def after_fork(self, message: str) -> None:
        """In a forked child: no thread of ours lives here."""
        self._lock = threading.Lock()
        self._closed = message
        for runner in self._running.values():
            runner.after_fork(message)
        self._running = {}
        self._ears.after_fork()

    def _parked(self, name: str) -> Failure:
        stored = self._log.consumer_store().look(check_name(name))
        records = [record for record in (stored.next, stored.live) if record is not None]
        if not records:
            raise _unknown(name)
        for record in records:
            if record.status == PARKED and record.failure is not None:
                return record.failure
        raise InvalidMessage(f"consumer {name} is not parked: it is {records[-1].status}", actual=records[-1].status)

    def _wish(self, name: str, what: str, agent: str | None = None, seq: int | None = None) -> None:
        if not self._log.consumer_store().wish(check_name(name), ConsumerRequest(uuid4().hex, what, agent, seq)):
            raise _unknown(name)

    def _info(self, record: ConsumerRecord, ends: Sequence[int], beside: ConsumerRecord | None) -> ConsumerInfo:
        marks = record.cursor.marks
        places = {
            number: marks[number].position if number in marks else 0
            for number in partitions_of(self._log, record.scope)
        }
        return ConsumerInfo(
            name=record.name,
            kind=record.kind,
            version=record.version,
            scope=record.scope,
            status=record.status,
            lag=sum(max(0, ends[number] - position) for number, position in places.items()),
            position=sum(places.values()),
            applied=record.applied,
            skipped=record.skipped,
            skips=record.skips,
            error=record.failure,
            updated_at=to_datetime(record.updated_at),
            building=None if beside is None else self._info(beside, ends, None),
        )


def _unknown(name: str) -> InvalidMessage:
    return InvalidMessage(f"no consumer of the name {name} was ever attached here")
