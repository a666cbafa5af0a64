"""Fingerprints of commands: two are the same if type and fields are, whatever their ids and durabilities.

The type is the name under which `@message_type` has declared the class, so that a class can be renamed between a
command and its repetition; a class that is not declared counts by its own name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from hashlib import sha256
from itertools import count
from typing import Any, Final, cast
from uuid import UUID

import attrs

from duramen.events import DuramenError, EventRegistry, InvalidMessage, PropertyPath, TooLarge
from duramen.events.codec import Codec
from duramen.projections.state import REQUIRED

from .message import Mutation
from .messages import Set, Spawn
from .work import CancelWork

SIZE: Final = 8
_MOST_VALUES: Final = 200_000
_OF_LIFECYCLE: Final = ("command_id", "durability", "expected_seq")
_OF_MUTATIONS: Final = (*_OF_LIFECYCLE, "metadata")
"""Repeated with another trace, a command is the same; the metadata of a spawn or a pause are what it says."""

_ADDED: Final[Mapping[type[Any], tuple[str, ...]]] = {
    Spawn: ("expires_after",),
    CancelWork: ("expected_seq", "metadata"),
}
"""Fields of later releases, which count where they are given: logs hold fingerprints of messages without them."""


def fingerprint(
    message: object, codec: Codec, registry: EventRegistry | None, *, unset: tuple[str, ...] = _OF_MUTATIONS
) -> bytes:
    """8 bytes over a message's type and fields; without a registry, the type is always the class's own name.

    `unset` names the fields of messages about work that count as if they were not given. Raises InvalidMessage unless
    the fields are plain data.
    """
    try:
        return sha256(codec.pack(_plain(message, count(1), registry, unset))).digest()[:SIZE]
    except RecursionError:
        raise TooLarge("a message is nested too deeply, or holds itself; flatten it") from None
    except DuramenError:
        raise
    except Exception as error:  # code of the message's own class, or a field that was never set
        raise InvalidMessage(
            f"a command id needs a message whose fields can be read; {type(message).__name__}: {type(error).__name__}"
        ) from error


def former_fingerprints(message: object, codec: Codec, registry: EventRegistry | None) -> Iterator[bytes]:
    """The other fingerprints that a message may have in a log.

    It has that of its class's own name from before the class was declared. Where messages about work carry a
    durability, say, earlier releases counted it.
    """
    yield fingerprint(message, codec, None)
    if _is_about_work(type(message)) and any(getattr(message, name, None) is not None for name in _OF_MUTATIONS):
        for unset in ((), ("expected_seq", "metadata")):
            yield fingerprint(message, codec, registry, unset=unset)
            yield fingerprint(message, codec, None, unset=unset)


def _is_about_work(cls: type[Any]) -> bool:
    """Whether a class has options whose names are in the fingerprints of logs, and their values in none."""
    return cls.__module__ != Set.__module__ and issubclass(cls, Mutation)


def _aside(cls: type[Any]) -> tuple[str, ...]:
    """The fields that say how a message is handled, and not what it says; a user's class may have a `durability`."""
    if cls.__module__ != Set.__module__:
        return ("command_id",)
    return _OF_MUTATIONS if issubclass(cls, Mutation) else _OF_LIFECYCLE


def _plain(value: Any, numbers: Iterator[int], registry: EventRegistry | None, unset: tuple[str, ...]) -> Any:
    if next(numbers) > _MOST_VALUES:
        raise TooLarge("a message with a command id has too many values", expected=_MOST_VALUES)
    cls = cast("type[Any]", type(value))
    if attrs.has(cls) and not isinstance(value, PropertyPath):
        aside, added = _aside(cls), _ADDED.get(cls, ())
        absent = unset if _is_about_work(cls) else ()
        names = [field.name for field in attrs.fields(cls) if field.name not in aside]
        held = {name: None if name in absent else getattr(value, name) for name in names}
        names = [name for name in names if name not in added or held[name] is not None]
        declared = None if registry is None else registry.message_name(cls)
        return [declared or cls.__name__, [_plain(held[name], numbers, registry, unset) for name in names]]
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(fields[key], numbers, registry, unset) for key in sorted(fields, key=str)}
    if isinstance(value, (list, tuple)):
        return [_plain(held, numbers, registry, unset) for held in cast("Sequence[Any]", value)]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (UUID, PropertyPath)):
        return str(value)
    if isinstance(value, timedelta):
        return [value.days, value.seconds, value.microseconds]
    if value is REQUIRED:
        return {}
    if isinstance(value, (str, int, float, bytes)) or value is None or hasattr(value, "utcoffset"):
        return value
    raise InvalidMessage(f"a command id needs a message of plain fields; {type(value).__name__} is none")
