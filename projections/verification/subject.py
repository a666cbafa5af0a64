"""The subject of a check: something that folds events, and how to make a fresh one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import field, frozen

from duramen.events import Event, EventRegistry, InvalidMessage
from duramen.events.model import DECLARED

from ..projection import KeyedProjection, Projection

Adapter = Callable[[Callable[[], Any], EventRegistry], "Projection[Any]"]
"""Turns what the factory makes into a projection; a module's function, so that another process can import it."""


class _KeyedFold(Projection[Mapping[str, Any]]):
    """The entries of a keyed projection as one state."""

    def __init__(self, keyed: KeyedProjection[Any]) -> None:
        self._keyed = keyed
        self.dumps = "dump" in _own_names(type(keyed), KeyedProjection)

    def initial(self) -> Mapping[str, Any]:
        return {}

    def apply(self, state: Mapping[str, Any], event: Event) -> Mapping[str, Any]:
        key = self._keyed.key(event)
        if key is None:
            return state
        entry = self._keyed.apply(state.get(key), event)
        others = {name: other for name, other in state.items() if name != key}
        return others if entry is None else {**others, key: entry}

    def dump(self, state: Mapping[str, Any]) -> Any:
        return {key: self._keyed.dump(entry) for key, entry in state.items()}

    def load(self, data: Any) -> Mapping[str, Any]:
        return {key: self._keyed.load(entry) for key, entry in data.items()}


def as_projection(factory: Callable[[], Any], registry: EventRegistry) -> Projection[Any]:
    """A fresh projection from the factory. Raises InvalidMessage if it makes something else."""
    made = factory()
    if isinstance(made, KeyedProjection):
        return _KeyedFold(cast("KeyedProjection[Any]", made))
    if not isinstance(made, Projection):
        raise InvalidMessage(f"{type(made).__qualname__} is no Projection; subclass duramen.projections.Projection")
    return cast("Projection[Any]", made)


def dumps(projection: Projection[Any]) -> bool:
    """Whether a projection has its own `dump`."""
    if isinstance(projection, _KeyedFold):
        return projection.dumps
    return "dump" in _own_names(type(projection), Projection)


def _own_names(cls: type[Any], base: type[Any]) -> set[str]:
    return {name for one in cls.__mro__[: cls.__mro__.index(base)] for name in vars(one)}


@frozen
class Subject:
    """A user's object that folds events."""

    name: str
    factory: Callable[[], Any]
    registry: EventRegistry = DECLARED
    adapt: Adapter = as_projection
    classes: tuple[type[Any], ...] = field(default=())
    """The classes of the object that the factory makes, with their bases."""
    single: bool = False
    """Whether the factory returns the same object each time."""

    def make(self) -> Projection[Any]:
        """Make a projection that has not folded anything yet."""
        return self.adapt(self.factory, self.registry)


def subject_of(given: object, registry: EventRegistry = DECLARED, adapt: Adapter = as_projection) -> Subject:
    """A subject from a class, a function without arguments that makes one, or an instance.

    Raises InvalidMessage for other objects. An instance is used again and again: no fresh one can be made of it.
    """
    if isinstance(given, Projection | KeyedProjection):
        made: object = cast("object", given)
        instance = made
        kind = type(instance)
        return Subject(kind.__qualname__, lambda: instance, registry, adapt, kind.__mro__[:-1], single=True)
    if not callable(given):
        raise InvalidMessage("takes a class, an instance, or a function that makes one", actual=type(given).__name__)
    factory = cast("Callable[[], Any]", given)
    made = factory()
    name = str(getattr(given, "__qualname__", type(made).__qualname__))
    subject = Subject(name, factory, registry, adapt, type(made).__mro__[:-1])
    subject.make()
    return subject
