"""What a durable consumer is made of, from the arguments of `attach`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

from attrs import define

from duramen.events import Cursor, EventRegistry, InvalidMessage, Limits
from duramen.events.log import LIVE, ConsumerRecord, ConsumerStore, EventLog, Slot, check_name
from duramen.events.model import describe_type

from ..notifications import EventFilter
from ..projection import Attachable, KeyedProjection, Projection, Reactor, Sink
from .sink_storage import ReactionStorage, SinkStorage
from .unread import check_rebuildable
from .view_storage import KeyedViewStorage, ViewStorage, WholeViewStorage

CATCHING_UP: Final = "catching_up"
LIVE_STATUS: Final = "live"
PARKED: Final = "parked"
REBUILDING: Final = "rebuilding"
STANDBY: Final = "standby"
FENCED: Final = "fenced"
CLOSED: Final = "closed"


@define(eq=False, kw_only=True)
class Plan:
    """`new_storage` makes an empty view; `reset` empties the tables of a sink, which cannot have two views."""

    log: EventLog
    name: str
    event_filter: EventFilter
    new_storage: Callable[[], ViewStorage]
    reset: Callable[[], None] | None
    can_rebuild: bool
    after: Cursor
    registry: EventRegistry
    limits: Limits
    owner: str

    @property
    def store(self) -> ConsumerStore:
        return self.log.consumer_store()

    @property
    def partitions(self) -> list[int]:
        return self.event_filter.partitions(self.log)

    def check_rebuildable(self) -> None:
        """Raise Trimmed if events that the view is made of are gone from the log. Raises Unavailable."""
        check_rebuildable(self.log, self.name, self.event_filter, self.after)

    def new_record(self, slot: Slot) -> ConsumerRecord:
        """The record of a view that is begun."""
        storage = self.new_storage()
        return ConsumerRecord(
            name=self.name,
            slot=slot,
            kind=storage.kind,
            version=storage.version,
            scope=self.event_filter.text,
            cursor=self.after,
            status=CATCHING_UP if slot == LIVE else REBUILDING,
        )


def plan_of(
    log: EventLog,
    registry: EventRegistry,
    limits: Limits,
    *,
    projection: Attachable[Any],
    name: str,
    event_filter: EventFilter,
    after: Cursor | None = None,
    owner: str | None = None,
) -> Plan:
    """Check the arguments of `AgentSystem.attach`, which says what each means. Raises InvalidMessage.

    `owner` is another one each time; by default one that names no host.
    """
    check_name(name)
    if after is not None and not isinstance(cast("object", after), Cursor):
        raise InvalidMessage("after takes a Cursor; see Cursor.from_text", actual=type(after).__name__)
    start = after or Cursor(log.identity)
    return Plan(
        log=log,
        name=name,
        new_storage=_storage_of(projection, name, start, limits),
        event_filter=event_filter.only(projection.types),
        reset=_reset_of(projection, name),
        can_rebuild=not isinstance(projection, (Sink, Reactor)) or _can_reset(projection),
        after=start,
        registry=registry,
        limits=limits,
        owner=owner or uuid4().hex,
    )


def host_of(record: ConsumerRecord) -> str:
    """The host on which a consumer runs, by its record; "" where it was closed, or its process named none."""
    return "" if record.status == CLOSED else record.token.partition(":")[2].rpartition(".")[0]


def _reset_of(projection: Attachable[Any], name: str) -> Callable[[], None] | None:
    """What empties the tables of a sink; of a reactor, what refuses to act again. None for views."""
    if isinstance(projection, Sink):
        return lambda: projection.reset(name)
    return partial(_refuse_rebuild, name) if isinstance(projection, Reactor) else None


def _refuse_rebuild(name: str) -> None:
    raise InvalidMessage(
        f"reactor {name} does not act again on events that it has had; for other agents or types, or another version, "
        "give it another name"
    )


def _can_reset(projection: Sink | Reactor) -> bool:
    return isinstance(projection, Sink) and type(projection).reset is not Sink.reset


def _storage_of(projection: Attachable[Any], name: str, start: Cursor, limits: Limits) -> Callable[[], ViewStorage]:
    if isinstance(projection, Projection):
        return lambda: WholeViewStorage(projection, limits)
    if isinstance(projection, KeyedProjection):
        keyed = cast("KeyedProjection[Any]", projection)
        return lambda: KeyedViewStorage(keyed, limits)
    if isinstance(projection, Sink):
        return lambda: SinkStorage(projection, name, start)
    if isinstance(projection, Reactor):
        return lambda: ReactionStorage(projection)
    raise InvalidMessage(
        f"a Projection, KeyedProjection or Sink can be attached, not {describe_type(projection)}; give an instance"
    )
