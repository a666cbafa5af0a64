"""Attach a projection to a log under a durable name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast
from uuid import uuid4

from duramen.events import EventRegistry, Granularity, InvalidMessage, Limits, PathPattern
from duramen.events.cursor import Cursor
from duramen.events.log import EventLog
from duramen.events.values import describe_type
from duramen.events.views import check_name

from .attachable import Attachable
from .consumer import Plan
from .ears import Ear, Ears
from .interest import Category
from .kept import Kept, KeptByKey, KeptWhole
from .kept_elsewhere import KeptElsewhere
from .keyed import KeyedProjection
from .projection import Projection
from .runner import Runner
from .scope import scope_of
from .sink import Sink

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
    ear: Ear | Ears,
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
    return Runner[V](plan, ear.open(scope.partitions, scope.level) if isinstance(ear, Ears) else ear)


def _keeping(projection: Attachable[Any], name: str, start: Cursor, limits: Limits) -> Callable[[], Kept]:
    if isinstance(projection, Projection):
        return lambda: KeptWhole(projection, limits)
    if isinstance(projection, KeyedProjection):
        keyed = cast("KeyedProjection[Any]", projection)
        return lambda: KeptByKey(keyed, limits)
    if isinstance(projection, Sink):
        return lambda: KeptElsewhere(projection, name, start)
    raise InvalidMessage(
        f"a Projection, KeyedProjection or Sink can be attached, not {describe_type(projection)}; give an instance"
    )


def _resetting(projection: Attachable[Any], name: str) -> Callable[[], None] | None:
    """How the tables of a sink are emptied: a new view cannot be built beside them."""
    return (lambda: projection.reset(name)) if isinstance(projection, Sink) else None
