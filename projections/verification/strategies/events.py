"""Strategies for events of registered types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import frozen
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from duramen.events import DuramenError, Event, EventRegistry, Granularity, InvalidMessage, Limits
from duramen.events.codec import DIGEST_SIZE
from duramen.events.model import DECLARED, check_value

from .fields import Fields, fields_of

Types = Collection[str | type[Any]]
"""Event types by registered name or class."""

OwnFields = Mapping[type[Any], Fields]
"""Strategies for fields whose annotations do not suffice: class → argument → strategy."""

START: Final = datetime(2024, 1, 1, tzinfo=UTC)


@frozen
class Dumped:
    """A user's event as it is stored: registered name, version and plain data."""

    type: str
    version: int
    data: dict[str, Any]


def instances(
    registry: EventRegistry = DECLARED, types: Types | None = None, *, fields: OwnFields | None = None
) -> SearchStrategy[Any]:
    """Instances of all registered classes, or of `types`; empty if there are none.

    Fields are drawn by their annotations: `str`, `int`, `float`, `bool`, `bytes`, `datetime`, None, `Literal`, unions,
    lists and dicts of these; `Any` is any plain data. Instances that validators refuse are discarded; give a strategy
    in `fields` where they refuse most. Raises InvalidMessage for a field of another annotation.
    """
    classes = _chosen(registry, types)
    return st.one_of([_instance(cls, registry, (fields or {}).get(cls)) for cls in classes])


def own_events(
    registry: EventRegistry = DECLARED, types: Types | None = None, *, fields: OwnFields | None = None
) -> SearchStrategy[Dumped]:
    """As `instances`, in stored form."""
    return instances(registry, types, fields=fields).map(lambda event: Dumped(*registry.dump(event)))


def times() -> SearchStrategy[datetime]:
    """Times of writers' clocks: most within one day, also going backwards; some before 1970."""
    near = st.integers(-3_600_000_000, 86_400_000_000).map(lambda late: START + timedelta(microseconds=late))
    return near | st.datetimes(datetime(1960, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))


@st.composite
def events(
    draw: DrawFn,
    registry: EventRegistry = DECLARED,
    types: Types | None = None,
    *,
    fields: OwnFields | None = None,
    agent: str = "project/agent",
) -> Event:
    """Single events of the user's types, as a reader gets them. `logs` draws whole consistent logs."""
    dumped = draw(own_events(registry, types, fields=fields))
    ids = st.none() | st.sampled_from(("id-1", "id-2"))
    return Event(
        agent,
        draw(st.integers(1, 1_000)),
        draw(times()),
        dumped.type,
        dumped.version,
        dumped.data,
        draw(st.sampled_from(("s-1", "s-2"))),
        draw(ids),
        draw(ids),
        draw(ids),
        Granularity.STATE,
        None,
        draw(st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE)),
    )


def _chosen(registry: EventRegistry, types: Types | None) -> list[type[Any]]:
    known = registry.types()
    if types is None:
        return list(known.values())
    chosen: list[type[Any]] = []
    for wanted in types:
        cls = known.get(wanted) if isinstance(wanted, str) else wanted
        if cls is None or cls not in known.values():
            raise InvalidMessage(f"{str(wanted)[:80]!r} is not registered here; import the module that declares it")
        chosen.append(cls)
    return chosen


def _instance(cls: type[Any], registry: EventRegistry, own: Fields | None) -> SearchStrategy[Any]:
    limits = Limits()

    def make(arguments: dict[str, Any]) -> Any:
        try:
            event = cls(**arguments)
            check_value(registry.dump(event)[2], limits)
        except (DuramenError, TypeError, ValueError, ArithmeticError):
            return None  # a validator refuses it, or `emit` would refuse what a converter returned
        return event

    return st.fixed_dictionaries(fields_of(cls, own)).map(make).filter(lambda event: event is not None)
