"""Attach a projection to a log under a durable name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast
from uuid import uuid4

from duramen.events import Cursor, EventRegistry, Granularity, InvalidMessage, Limits, PathPattern
from duramen.events.log import EventLog, check_name
from duramen.events.model import describe_type

from ..notifications import Category, ListenerPool, NoticeSource, scope_of
from ..projection import Attachable, KeyedProjection, Projection, Sink
from .consumer import Plan
from .runner import Runner
from .sink_storage import SinkStorage
from .view_storage import KeyedViewStorage, ViewStorage, WholeViewStorage

__all__ = ["attach"]

V = TypeVar("V")


def attach(
    log: EventLog,
    projection: Attachable[V],
    name: str,
    *,
    agents: str | PathPattern = "**",
    granularity: Granularity = Granularity.TRACE,
    categories: Iterable[Category] | None = None,
    types: Iterable[str] | None = None,
    after: Cursor | None = None,
    registry: EventRegistry,
    limits: Limits,
    ear: NoticeSource | ListenerPool,
) -> Runner[V]:
    """As `AgentSystem.attach`, which says what each argument means."""
    check_name(name)
    if after is not None and not isinstance(cast("object", after), Cursor):
        raise InvalidMessage("after takes a Cursor; see Cursor.from_text", actual=type(after).__name__)
    start = after or Cursor(log.identity)
    kept = _keeping(projection, name, start, limits)
    scope = scope_of(log, agents, granularity=granularity, categories=categories, types=types, handled=projection.types)
    plan = Plan(
        log=log,
        name=name,
        scope=scope,
        kept=kept,
        reset=_resetting(projection, name),
        can_rebuild=not isinstance(projection, Sink) or type(projection).reset is not Sink.reset,
        after=start,
        registry=registry,
        limits=limits,
        owner=uuid4().hex,
    )
    return Runner[V](plan, ear.open(scope.partitions, scope.level) if isinstance(ear, ListenerPool) else ear)


def _keeping(projection: Attachable[Any], name: str, start: Cursor, limits: Limits) -> Callable[[], ViewStorage]:
    if isinstance(projection, Projection):
        return lambda: WholeViewStorage(projection, limits)
    if isinstance(projection, KeyedProjection):
        keyed = cast("KeyedProjection[Any]", projection)
        return lambda: KeyedViewStorage(keyed, limits)
    if isinstance(projection, Sink):
        return lambda: SinkStorage(projection, name, start)
    raise InvalidMessage(
        f"a Projection, KeyedProjection or Sink can be attached, not {describe_type(projection)}; give an instance"
    )


def _resetting(projection: Attachable[Any], name: str) -> Callable[[], None] | None:
    """How the tables of a sink are emptied: a new view cannot be built beside them."""
    return (lambda: projection.reset(name)) if isinstance(projection, Sink) else None
