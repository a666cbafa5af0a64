"""Event and message types by short registered names, and upcasters of stored events to the next version."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import attrs

from ..errors import DuramenError, InvalidMessage, UnknownEventType, UnknownMessageType
from .redefinition import find_holders, has_same_definition, has_same_origin
from .vocabulary import OWN_TYPES

C = TypeVar("C", bound=type[Any])
Data = dict[str, Any]
Upcaster = Callable[[Data], Data]
"""Takes the data of one version (plain, a copy of its own) and returns that of the next. Pure."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z")
_OWN_PREFIX: Final = "duramen."


@attrs.frozen
class _Declared:
    cls: type[Any]
    version: int
    fields: tuple[tuple[str, str], ...]
    """Name of the attribute and of the constructor's argument, for each field that the constructor takes."""
    is_durable: bool = False
    """Of a message type: whether its messages are logged when they are accepted, and handled to their end."""
    is_exclusive: bool = False
    """Of a durable message type: whether its agent handles no other messages until then."""

    def read(self, instance: object) -> Data:
        """Return the values of an instance's fields, by the names of the constructor's arguments."""
        return {argument: getattr(instance, field) for field, argument in self.fields}


class _Declarations:
    """The classes of one kind of type (event or message) by their names. Names of another kind are another's."""

    def __init__(self, kind: str, decorator: str, error: type[DuramenError]) -> None:
        self.kind = kind
        self._decorator = decorator
        self._error = error
        self.by_name: dict[str, _Declared] = {}
        self.by_class: dict[type[Any], str] = {}
        self._replaced: dict[str, list[weakref.ref[type[Any]]]] = {}

    def register(self, cls: C, name: str, version: int, *, is_durable: bool = False, is_exclusive: bool = False) -> C:
        """Register a class whose name was checked; return the one registered before if it has the same definition."""
        kind = self.kind
        if type(version) is not int or version < 1:
            raise InvalidMessage(f"{kind} {name!r}: versions start at 1", actual=version)
        if not attrs.has(cls):
            raise InvalidMessage(f"{kind} {name!r}: put {self._decorator} above @attrs.frozen")
        known = self.by_name.get(name)
        if known is not None and known.cls is not cls:
            if not has_same_origin(known.cls, cls):
                raise InvalidMessage(f"{kind} {name!r} is already {_full_name(known.cls)}; names are for ever")
            is_same = (known.version, known.is_durable, known.is_exclusive) == (version, is_durable, is_exclusive)
            if is_same and has_same_definition(known.cls, cls):
                return cast("C", known.cls)
            self._replaced.setdefault(name, []).append(weakref.ref(known.cls))
        fields = tuple((field.name, field.alias or field.name) for field in attrs.fields(cls) if field.init)
        self.by_name[name] = _Declared(cls, version, fields, is_durable, is_exclusive)
        self.by_class[cls] = name
        return cast("C", cls)

    def find_by_instance(self, instance: object) -> tuple[str, _Declared]:
        """Return name and declaration of an instance's class.

        Raises the error of this kind for a class that is not registered, or was replaced by a changed definition.
        """
        name = self.by_class.get(type(instance))
        if name is None:
            raise self._error(
                f"{type(instance).__qualname__} is not {self._article()}; put {self._decorator}(name) above its @frozen"
            )
        declared = self.by_name[name]
        if declared.cls is not type(instance):
            raise self._error(
                f"{self.kind} {name!r}: this instance is of the class that stood here before "
                f"{_full_name(declared.cls)} was defined again; make it anew from the class of now"
            )
        return name, declared

    def find_by_name(self, name: str) -> _Declared:
        """Return the declaration of a name; its class may be instantiated.

        Raises the error of this kind for an unknown name, and if an imported module holds a class that this one
        replaced.
        """
        declared = self.by_name.get(name)
        if declared is None:
            raise self._error(f"{self.kind} {name!r} is not registered here; import the module that declares it")
        if name in self._replaced:
            self._check_replaced(name, declared)
        return declared

    def _check_replaced(self, name: str, declared: _Declared) -> None:
        for reference in self._replaced[name]:
            earlier = reference()
            holders = [] if earlier is None else find_holders(earlier)
            if holders:
                raise self._error(
                    f"{self.kind} {name!r}: {_full_name(declared.cls)} was defined again with a change, and "
                    f"{', '.join(holders)} still holds the class from before, which would not recognise these "
                    f"{self.kind.split()[0]}s; import or reload that module again, or start the program anew",
                    expected=declared.version,
                )
        del self._replaced[name]

    def _article(self) -> str:
        return f"an {self.kind}" if self.kind[0] in "aeiou" else f"a {self.kind}"


class EventRegistry:
    """The classes of stored event types and of message types by name, and the upcasters of older events' data.

    It is filled while modules are imported, and only read afterwards. Stored events name the type and its version,
    never a class or module path: a class can be renamed or moved, its registered name cannot. Event types and message
    types do not share their names: an event and a message may have the same one.

    A class that repeats the definition of one registered before is that class: the earlier one stays. A changed
    definition replaces it, and nothing is loaded as that type while an imported module holds the earlier class: its
    `isinstance` would not recognise what is loaded.
    """

    def __init__(self) -> None:
        self._events = _Declarations("event type", "@event_type", UnknownEventType)
        self._messages = _Declarations("message type", "@message_type", UnknownMessageType)
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        self.has_exclusive = False
        """Whether a message type is exclusive."""

    def register(self, cls: C, name: str, version: int = 1) -> C:
        """Register `cls` as the class of stored events called `name`; return the class to use.

        That is the class registered before, if `cls` repeats its definition.

        Raises InvalidMessage for a name that is not `[a-z][a-z0-9_.-]*` of at most 64 characters, is one of our own
        or another class's, for a version below 1, and for a class that is not an attrs class.
        """
        _check_name(name)
        return self._events.register(cls, name, version)

    def register_message(
        self, cls: C, name: str, version: int = 1, *, durable: bool = False, exclusive: bool = False
    ) -> C:
        """Register `cls` as the class of messages called `name`; return the class to use, as `register` does.

        `durable` messages are logged when they are accepted; while an `exclusive` one of them is handled, no other is.
        Raises InvalidMessage as `register` does; names that begin with `duramen.` are our own.
        """
        if exclusive and not durable:
            raise InvalidMessage(f"message type {name!r}: only durable messages are exclusive")
        if type(name) is not str or not _NAME.match(name) or name.startswith(_OWN_PREFIX):
            raise InvalidMessage(
                f"{str(name)[:80]!r} cannot name a message type: use [a-z][a-z0-9_.-]*, not beginning with "
                f"{_OWN_PREFIX}"
            )
        self.has_exclusive = self.has_exclusive or bool(exclusive)
        return self._messages.register(cls, name, version, is_durable=bool(durable), is_exclusive=bool(exclusive))

    def add_upcaster(self, name: str, from_version: int, function: Upcaster) -> None:
        """Register `function` to turn data of `from_version` into data of the next version.

        Raises InvalidMessage for a name that no event type can have, for a version below 1, for what cannot be
        called, and if another function is registered for this step.
        """
        _check_name(name)
        if type(from_version) is not int or from_version < 1:
            raise InvalidMessage(f"upcaster of {name!r}: versions start at 1", actual=from_version)
        if not callable(function):
            raise InvalidMessage(f"upcaster of {name!r}: takes a function", actual=type(function).__name__)
        known = self._upcasters.get((name, from_version))
        if known is not None and not has_same_origin(known, function):
            raise InvalidMessage(f"event type {name!r} already has an upcaster from version {from_version}")
        self._upcasters[(name, from_version)] = function

    def dump(self, event: object) -> tuple[str, int, Data]:
        """Return name, version and data of an instance.

        Raises UnknownEventType for a class that is not registered, or was replaced by a changed definition.
        """
        name, declared = self._events.find_by_instance(event)
        return name, declared.version, declared.read(event)

    def dump_message(self, message: object) -> tuple[str, int, Data]:
        """Return name, version and fields of a message; the fields are not copied.

        Raises UnknownMessageType for a class that is not registered, or was replaced by a changed definition.
        """
        name, declared = self._messages.find_by_instance(message)
        return name, declared.version, declared.read(message)

    def load(self, name: str, version: int, data: Data) -> Any:
        """Build an instance from stored data, which is brought to today's version first.

        Raises UnknownEventType, also if the class does not accept the data (its fields were then changed without
        a new version and an upcaster), and if an imported module holds a class that this one replaced.
        """
        declared = self._events.find_by_name(name)
        current = self.upcast(name, version, data)
        try:
            return declared.cls(**current)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise UnknownEventType(
                f"event type {name!r}: its class does not take what is stored as version {version}; give changed "
                "fields a new version and an upcaster",
                expected=declared.version,
                actual=version,
            ) from error

    def load_message(self, name: str, version: int, data: Data) -> Any:
        """Build a message from its fields; of an older version too, if the class of now takes its fields.

        Raises UnknownMessageType for an unknown name, for a version newer than the code's, if the class does not take
        the fields, and if an imported module holds a class that this one replaced.
        """
        declared = self._messages.find_by_name(name)
        if version > declared.version:
            raise UnknownMessageType(
                f"message type {name!r}: version {version} is newer than this code's; update the code",
                expected=declared.version,
                actual=version,
            )
        try:
            return declared.cls(**data)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise UnknownMessageType(
                f"message type {name!r}: its class does not take the fields of version {version} "
                f"({type(error).__name__}); run the same code where messages are sent and where they are handled, or "
                "give new fields a default",
                expected=declared.version,
                actual=version,
            ) from error

    def is_durable(self, cls: type[Any]) -> bool:
        """Whether messages of this class are logged when they are accepted, and handled to their end."""
        name = self._messages.by_class.get(cls)
        return name is not None and self._messages.by_name[name].is_durable

    def is_exclusive(self, name: str) -> bool:
        """Whether an agent handles no other messages while it handles one of this name."""
        declared = self._messages.by_name.get(name)
        return declared is not None and declared.is_exclusive

    def message_version(self, name: str) -> int:
        """Return the version of a message type here; 0 for one that is not registered."""
        declared = self._messages.by_name.get(name)
        return 0 if declared is None else declared.version

    def message_types(self) -> dict[str, type[Any]]:
        """Return the class of each registered message name."""
        return {name: declared.cls for name, declared in self._messages.by_name.items()}

    def message_name(self, cls: type[Any]) -> str | None:
        """Return the name of a message class, also of one that was replaced by a changed definition; None: no name."""
        return self._messages.by_class.get(cls)

    def has_type(self, name: str) -> bool:
        """Whether a class is registered under this name."""
        return name in self._events.by_name

    def types(self) -> dict[str, type[Any]]:
        """Return the class of each registered name."""
        return {name: declared.cls for name, declared in self._events.by_name.items()}

    def upcasters(self) -> dict[tuple[str, int], Upcaster]:
        """Return the upcaster of each name and version that it starts from."""
        return dict(self._upcasters)

    def current_version(self, name: str) -> int:
        """Return today's version of a type; 1 for duramen's own types and unknown ones."""
        declared = self._events.by_name.get(name)
        return declared.version if declared else 1

    def upcast(self, name: str, version: int, data: Data) -> Data:
        """Return data of a registered type in today's version, and data of other types unchanged.

        Raises UnknownEventType if a step is missing or fails, or the stored version is newer than the code.
        """
        declared = self._events.by_name.get(name)
        if declared is None or version == declared.version:
            return data
        if version > declared.version:
            raise UnknownEventType(
                f"event type {name!r}: stored version {version} is newer than this code's; update the code",
                expected=declared.version,
                actual=version,
            )
        for step in range(version, declared.version):
            function = self._upcasters.get((name, step))
            if function is None:
                raise UnknownEventType(
                    f"event type {name!r}: no upcaster from version {step}; declare one with "
                    f"@upcaster({name!r}, from_version={step})",
                    expected=declared.version,
                    actual=version,
                )
            data = _apply_upcaster(function, name, step, data)
        return data


def _apply_upcaster(function: Upcaster, name: str, step: int, data: Data) -> Data:
    try:
        changed = function(dict(data))
    except Exception as error:  # the user's own code
        raise UnknownEventType(
            f"event type {name!r}: the upcaster from version {step} raised {type(error).__name__}; it must take what "
            "was stored",
            actual=step,
        ) from error
    if type(cast("object", changed)) is not dict:
        raise UnknownEventType(
            f"event type {name!r}: the upcaster from version {step} returned no dict of the next version's data",
            actual=type(changed).__name__,
        )
    return changed


def _check_name(name: str) -> None:
    if type(name) is not str or not _NAME.match(name) or name in OWN_TYPES:
        raise InvalidMessage(
            f"{str(name)[:80]!r} cannot name an event type: use [a-z][a-z0-9_.-]*, not one of duramen's own"
        )


def _full_name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


DECLARED: Final = EventRegistry()
"""The registry that the decorators use by default; see docs/decisions/0002."""


def event_type(name: str, version: int = 1, *, registry: EventRegistry = DECLARED) -> Callable[[C], C]:
    """Declare an attrs class as an event type. Write it above `@frozen`: attrs makes slotted classes twice.

    The fields must be plain data. `name` is stored with each event and can never change. Raise `version` when the
    fields change, and add an `upcaster` from each version to the next. A class that is defined again without a
    change, as by `importlib.reload`, stays the class that it was.
    """

    def declare(cls: C) -> C:
        return registry.register(cls, name, version)

    return declare


def message_type(
    name: str,
    *,
    version: int = 1,
    durable: bool = False,
    exclusive: bool = False,
    registry: EventRegistry = DECLARED,
) -> Callable[[C], C]:
    """Declare an attrs class as a message type, whose messages may cross to another process. Write it above `@frozen`.

    `name` identifies the message where its class may not: in what crosses, and for command ids, so that a class can be
    renamed. `version` crosses with it; code of a lower version refuses the message with UnknownMessageType. A class
    that is defined again without a change stays the class that it was.

    A `durable` message is accepted by being logged, and its handler, a coroutine, goes on where it was after a crash;
    its fields are plain data. Until the end of an `exclusive` one, its agent takes reads, answers and lifecycle
    messages, and accepts durable ones; all others wait.
    """

    def declare(cls: C) -> C:
        return registry.register_message(cls, name, version, durable=durable, exclusive=exclusive)

    return declare


def upcaster(name: str, *, from_version: int, registry: EventRegistry = DECLARED) -> Callable[[Upcaster], Upcaster]:
    """Declare a function that turns a type's data of one version into data of the next."""

    def declare(function: Upcaster) -> Upcaster:
        registry.add_upcaster(name, from_version, function)
        return function

    return declare
