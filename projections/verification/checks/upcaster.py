"""A check of upcasters: an old event becomes what today's code would have written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from duramen.events import Event, EventRegistry, Granularity, InvalidMessage
from duramen.events.model import DECLARED

from ...projection import Projection, fold
from ...recorded import StoredLog, portrait
from ..checking import Report, check_subject
from ..laws import Law
from ..strategies import AGENT, Author, fields_of
from ..subject import Subject, as_projection, subject_of

Native = Callable[[dict[str, Any]], object]
"""Takes the data of an old event; returns the instance that today's code would have written instead."""


class UpcastedEqualsNative(Law):
    """Upcast events of one old version equal today's events, and no field is lost."""

    name: ClassVar[str] = "upcasted equals native"

    def __init__(
        self, event: str, from_version: int, *, native: Native | None = None, changed: Collection[str] = ()
    ) -> None:
        self._event = event
        self._version = from_version
        self._native = native
        self._changed = frozenset(changed)

    def check(self, subject: Subject, log: StoredLog) -> None:
        old = [(seq, raw[4]) for seq, raw in enumerate(log.raws(), 1) if raw[:2] == [self._event, self._version]]
        natives = {seq: self._one(subject.registry, seq, data) for seq, data in old}
        events = log.events()
        written = [_with_data(event, natives[event.seq]) if event.seq in natives else event for event in events]
        expected, actual = portrait(fold(subject.make(), written)), portrait(fold(subject.make(), events))
        self.compare("folded, upcasted events come to something else than native ones", expected, actual)

    def _one(self, registry: EventRegistry, seq: int, old: dict[str, Any]) -> dict[str, Any]:
        """The data that today's code would have written."""
        given = deepcopy(old)
        new = registry.upcast(self._event, self._version, given)
        self.compare(f"at seq {seq} the upcaster changed what it was given", portrait(old), portrait(given))
        again = portrait(registry.upcast(self._event, self._version, deepcopy(old)))
        self.compare(f"at seq {seq} the upcaster gave something else the second time", portrait(new), again)
        instance = registry.load(self._event, self._version, deepcopy(old))
        if self._native is None:
            dumped = registry.dump(instance)[2]
            self._kept(seq, old, dumped)
            return dumped
        native = self._native(deepcopy(old))
        self.compare(f"at seq {seq} it became another event", portrait(native), portrait(instance))
        return registry.dump(native)[2]

    def _kept(self, seq: int, old: dict[str, Any], dumped: dict[str, Any]) -> None:
        for name, value in old.items():
            if name in self._changed:
                continue
            if name not in dumped:
                raise self.broken(
                    f"at seq {seq} the field {name!r} is gone; name it in `changed` if that is meant", portrait(value)
                )
            self.compare(f"at seq {seq} the field {name!r} lost its value", portrait(value), portrait(dumped[name]))


def check_upcaster(
    event: str | type[Any],
    from_version: int,
    old: Mapping[str, SearchStrategy[Any]] | type[Any],
    *,
    native: Native | None = None,
    changed: Collection[str] = (),
    projection: Any = None,
    registry: EventRegistry = DECLARED,
    examples: int | None = None,
    seed: int | None = None,
) -> Report:
    """Check all upcasters from an old version of an event type to today's.

    `old` describes the old data: a strategy for each field, or the old class (under another name, not registered).
    With `native` the result must equal what that returns; without, each old field must keep its value, except those in
    `changed`. With a `projection`, folding old events must give the same state as folding native ones.

    Raises LawBroken, and InvalidMessage for an event type that is not registered or a version that is not old.
    """
    name = _name_of(event, registry)
    if type(from_version) is not int or not 1 <= from_version < registry.current_version(name):
        raise InvalidMessage(f"event type {name!r} is at version {registry.current_version(name)}", actual=from_version)
    subject = _subject(projection, registry)
    law = UpcastedEqualsNative(name, from_version, native=native, changed=changed)
    fields = fields_of(old) if isinstance(old, type) else dict(old)
    return check_subject(subject, [law], _old_logs(name, from_version, fields, registry), examples, seed)


class _Nothing(Projection[None]):
    def initial(self) -> None:
        return None

    def apply(self, state: None, event: Event) -> None:
        return None


def _subject(projection: Any, registry: EventRegistry) -> Subject:
    if projection is None:
        return Subject("the upcaster", _Nothing, registry, as_projection)
    return projection if isinstance(projection, Subject) else subject_of(projection, registry)


def _name_of(event: str | type[Any], registry: EventRegistry) -> str:
    for name, cls in registry.types().items():
        if event in (name, cls):
            return name
    raise InvalidMessage(f"{str(event)[:80]!r} is not registered here; import the module that declares it")


def _old_logs(
    name: str, version: int, fields: Mapping[str, SearchStrategy[Any]], registry: EventRegistry
) -> SearchStrategy[StoredLog]:
    def written(many: list[dict[str, Any]]) -> StoredLog:
        author = Author()
        author.spawn({})
        for data in many:
            author.write(name, data, Granularity.STATE, version)
        return StoredLog(tuple(author.items), AGENT, registry)

    return st.lists(st.fixed_dictionaries(dict(fields)), max_size=5).map(written)


def _with_data(event: Event, data: dict[str, Any]) -> Event:
    return Event(
        event.agent,
        event.seq,
        event.time,
        event.type,
        event.version,
        data,
        event.session_id,
        event.command_id,
        event.causation_id,
        event.correlation_id,
        event.granularity,
        event.metadata,
        event.digest,
    )
