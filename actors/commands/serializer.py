"""Messages, replies and errors as bytes for another process, and back. Nothing is pickled.

What crosses is plain data, the values and objects of duramen's own, and instances of classes under `@message_type`;
lists, tuples and dicts of these. Types are looked up by short names: of duramen's own in a table here, of the user's
in the registry. So no bytes can name a class, a module or a function to import or to call.

A value is packed as [code, content]. Of an object, the content holds the fields that differ from their defaults: plain
ones as they are, others packed. Code of another release that does not know a name, a field or a code refuses it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final, cast
from uuid import UUID

import attrs
from attrs import evolve

from duramen.events import (
    AgentPath,
    Content,
    DuramenError,
    Event,
    EventRegistry,
    Granularity,
    HandlerRaised,
    InvalidMessage,
    Limits,
    OutcomeUnknown,
    PropertyPath,
    Receipt,
    ReplyRefused,
    StepFailed,
    TooLarge,
    UnknownMessageType,
    ValueRefused,
)
from duramen.events.codec import Codec
from duramen.events.model import StoredContent, WithContents, check_value, describe_type, printable
from duramen.projections import Episode
from duramen.projections.state import MISSING, ReadOnlyDict, ReadOnlyList, read_only

from . import messages, reminders, results, retention, work
from .handler_error import ERRORS, base_name, clean_text, raised_class, to_caller_error

# Codes of packed values. They are never given another meaning; a new one is refused by earlier releases.
_PLAIN: Final = 0
_LIST: Final = 1
_TUPLE: Final = 2
_DICT: Final = 3
_VIEW: Final = 4
_OWN: Final = 5
_DECLARED: Final = 6
_ERROR: Final = 7
_UUID: Final = 8
_TIMEDELTA: Final = 9
_PROPERTY_PATH: Final = 10
_AGENT_PATH: Final = 11
_GRANULARITY: Final = 12
_OUTCOME: Final = 13
_SENTINEL: Final = 14

_OWN_CLASSES: Final[dict[str, type[Any]]] = {
    "accept": work.Accept,
    "adopt_child": messages.AdoptChild,
    "agent_status": results.AgentStatus,
    "answer": work.Answer,
    "append": messages.Append,
    "batch": messages.Batch,
    "cancel_asked": work.CancelAsked,
    "cancel_work": work.CancelWork,
    "checkpoint": results.Checkpoint,
    "content": Content,
    "child_failed": messages.ChildFailed,
    "delete": messages.Delete,
    "episode": Episode,
    "event": Event,
    "extend": messages.Extend,
    "get": messages.Get,
    "get_many": messages.GetMany,
    "get_reminders": reminders.GetReminders,
    "get_result": work.GetResult,
    "get_status": messages.GetStatus,
    "get_unfinished": work.GetUnfinished,
    "keys": messages.Keys,
    "length": messages.Length,
    "lifecycle_event": results.LifecycleEvent,
    "lifecycle_result": results.LifecycleResult,
    "list_checkpoints": messages.ListCheckpoints,
    "merge": messages.Merge,
    "pause": messages.Pause,
    "pop": messages.Pop,
    "receipt": Receipt,
    "record": messages.Record,
    "remind": reminders.Remind,
    "reminder": reminders.Reminder,
    "remove_reminder": reminders.RemoveReminder,
    "restart": messages.Restart,
    "resume": messages.Resume,
    "retention": retention.Retention,
    "retry_work": work.RetryWork,
    "set": messages.Set,
    "set_granularity": messages.SetGranularity,
    "set_retention": messages.SetRetention,
    "slice": messages.Slice,
    "spawn": messages.Spawn,
    "stored_content": StoredContent,
    "terminate": messages.Terminate,
    "trim_result": retention.TrimResult,
    "unfinished_work": work.UnfinishedWork,
    "with_contents": WithContents,
}
"""The classes that cross, by names that never change. `Hold` is none: a cascade stays in the process of its tree."""

_WRAPPING: Final = 4096  # bytes, for what stands around the values of a message
_SMALL: Final = 1024
_type_of: Callable[[object], type[Any]] = type
"""The built-in with a narrower type, for type checkers."""
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_MOST_CAUSES: Final = 3
_DEEPEST: Final = 400  # msgpack writes 511 levels
_FACTS: Final = ("agent", "seq", "expected", "actual")


def _fields_of(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The fields of a class of duramen's own, each with its default; `_NEVER`, which is no value, where it has none."""
    if not attrs.has(cls):
        return tuple((name, _NEVER) for name in cls._fields)  # a named tuple
    return tuple(
        (field.name, _NEVER if field.default is attrs.NOTHING or isinstance(field.default, _FACTORY) else field.default)
        for field in attrs.fields(cls)
    )


_NEVER: Final = object()
_FACTORY: Final = cast("type[Any]", attrs.Factory)
_OWN_NAMES: Final = {cls: (name, _fields_of(cls)) for name, cls in _OWN_CLASSES.items()}


def _bound_replies(limits: Limits) -> Limits:
    """The limits of replies, which may be a whole working memory: its paths add to the depth of its values."""
    most = max(limits.event_nodes, limits.state_nodes) + 1
    return evolve(limits, event_nodes=most, container_items=most, depth=min(2 * limits.depth, _DEEPEST))


class Serializer:
    """Packs what crosses to another process, and unpacks it. Thread-safe.

    Messages are bounded as batches of events are, replies as snapshots; both in depth and number of values.
    """

    def __init__(self, limits: Limits, registry: EventRegistry) -> None:
        most = max(limits.batch_bytes, limits.event_bytes) + _WRAPPING
        self._registry = registry
        self._message_limits = limits
        self._message_bytes = most
        self._reply_limits = _bound_replies(limits)
        self._reply_bytes = max(most, limits.snapshot_bytes)
        self._codecs = threading.local()

    def pack_message(self, message: object) -> bytes:
        """Return a message as bytes.

        Raises UnknownMessageType for an instance of a class that does not cross, in it or itself, ValueRefused for
        other values that do not, and TooLarge.
        """
        packed = self._pack(message, "message", self._message_limits)
        _check_size(packed, self._message_bytes, "a message")
        return packed

    def unpack_message(self, data: bytes) -> Any:
        """Return the message that was packed.

        Raises UnknownMessageType for bytes that hold no message that this code knows; the message is not handled then.
        """
        try:
            return self._unpack(data)
        except UnknownMessageType:
            raise
        except Exception as error:  # bytes of another release, or code of a class of the user's
            raise UnknownMessageType(
                f"a message of {len(data)} bytes from another process cannot be read here ({type(error).__name__}); "
                "run the same release in all processes"
            ) from error

    def pack_reply(self, reply: object, agent: str, seq: int) -> bytes:
        """Return a reply as bytes. Raises ReplyRefused if it cannot cross: the message was handled, up to `seq`."""
        try:
            packed = self._pack(reply, "reply", self._reply_limits)
            _check_size(packed, self._reply_bytes, "a reply")
        except DuramenError as error:
            raise ReplyRefused(
                f"{agent} has handled the message; its reply, a {describe_type(reply)}, cannot cross to another "
                f"process: {error}",
                agent=agent,
                seq=seq,
                actual=describe_type(reply),
            ) from error
        return packed

    def unpack_reply(self, data: bytes, agent: str, seq: int) -> Any:
        """Return the reply that was packed. Raises ReplyRefused if this code cannot read it; it was handled."""
        try:
            return self._unpack(data)
        except Exception as error:  # bytes of another release, or code of a class of the user's
            raise ReplyRefused(
                f"{agent} has handled the message, in another process; its reply of {len(data)} bytes cannot be read "
                f"here: {error if isinstance(error, DuramenError) else type(error).__name__}",
                agent=agent,
                seq=seq,
            ) from error

    def rename(self, data: bytes, old: str, new: str) -> bytes:
        """Return a packed reply in which a text stands as another one, wherever it stands."""
        codec = self._codec()
        return codec.pack(renamed(codec.unpack(data), old, new))

    def pack_error(self, error: BaseException, agent: str) -> bytes:
        """Return the error that a caller of this agent gets as bytes: typed errors with their facts and causes.

        An exception that is no typed error crosses as what its caller gets in this process, `HandlerRaised`. Facts
        that cannot cross are replaced by the name of their type, causes end after three.
        """
        return self._codec().pack(_Packing(self._registry, self._message_limits).pack_error(error, agent))

    def unpack_error(self, data: bytes) -> DuramenError:
        """Return the error that was packed, as an instance of its own; OutcomeUnknown if this code cannot read it."""
        try:
            return _Unpacking(self._registry).unpack_error(Codec(self._message_limits).unpack(data))
        except Exception as error:  # bytes of another release, or code of a class of the user's
            unreadable = OutcomeUnknown(
                f"another process sent an error of {len(data)} bytes that cannot be read here; run the same release in "
                "all processes"
            )
            unreadable.__cause__ = error
            return unreadable

    def error_to_data(self, error: BaseException, agent: str) -> dict[str, Any]:
        """Return an error as plain data, for an event."""
        return _Packing(self._registry, self._message_limits).pack_error(error, agent)

    def error_from_data(self, data: Any) -> DuramenError:
        """Return an error of its own for one that was data; OutcomeUnknown if this code cannot read it."""
        try:
            return _Unpacking(self._registry).unpack_error(data)
        except Exception as error:  # of another release, or code of a class of the user's
            unreadable = OutcomeUnknown("an error in the log cannot be read here; run the same release everywhere")
            unreadable.__cause__ = error
            return unreadable

    def _pack(self, value: object, where: str, limits: Limits) -> bytes:
        try:
            return self._codec().pack(_Packing(self._registry, limits).pack(value, where))
        except DuramenError:
            raise
        except Exception as error:  # code of a class of the user's, or a field that was never set
            raise InvalidMessage(
                f"the fields of a {describe_type(value)} cannot be read: {type(error).__name__}"
            ) from error

    def _unpack(self, data: bytes) -> Any:
        return _Unpacking(self._registry).unpack(self._codec().unpack(data))

    def _codec(self) -> Codec:
        try:
            return cast("Codec", self._codecs.codec)
        except AttributeError:
            codec = self._codecs.codec = Codec(self._message_limits, of_messages=True)
            return codec


def renamed(data: Any, old: str, new: str) -> Any:
    """Return plain data in whose texts one text stands as another one; keys stay."""
    if type(data) is str:
        return data.replace(old, new)
    if type(data) is dict:
        return {key: renamed(value, old, new) for key, value in cast("dict[Any, Any]", data).items()}
    if type(data) is list:
        return [renamed(value, old, new) for value in cast("list[Any]", data)]
    return data


def _check_size(packed: bytes, most: int, what: str) -> None:
    if len(packed) > most:
        raise TooLarge(
            f"{what} of {len(packed)} bytes is over the limit of {most}; split it, or store the content elsewhere",
            expected=most,
            actual=len(packed),
        )


class _Packing:
    """Turns one value into plain data that says what it was."""

    def __init__(self, registry: EventRegistry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits
        self._numbers: Iterator[int] = count(1)

    def pack(self, value: Any, where: str, depth: int = 0) -> list[Any]:
        kind = cast("type[Any]", type(value))
        own = _OWN_NAMES.get(kind)
        if own is not None:
            return self._pack_own(value, *own, depth)
        packer = _PACKERS.get(kind)
        if packer is not None:
            return packer(value)
        if kind in _PLAIN_TYPES:
            try:
                check_value(value, self._limits, where)
            except ValueRefused:
                if kind is not list and kind is not dict:
                    raise
            else:
                return [_PLAIN, value]
        return self._pack_other(value, kind, where, depth)

    def _pack_other(self, value: Any, kind: type[Any], where: str, depth: int) -> list[Any]:
        """Pack a container with other than plain data in it, a view, an error, or an object of the user's."""
        if depth >= self._limits.depth or next(self._numbers) > self._limits.event_nodes:
            raise TooLarge(
                f"{where} is nested too deeply, or has too many values; split it", expected=self._limits.depth
            )
        if kind is list or kind is tuple:
            items = [self.pack(item, f"{where}/{index}", depth + 1) for index, item in enumerate(value)]
            return [_LIST if kind is list else _TUPLE, items]
        if kind is dict:
            for key in value:
                check_value({key: None}, self._limits, where)
            return [
                _DICT,
                {key: self.pack(item, f"{where}/{printable(key)}", depth + 1) for key, item in value.items()},
            ]
        if kind is ReadOnlyDict or kind is ReadOnlyList:
            return [_VIEW, self.pack(value.plain(), where, depth + 1)]
        if issubclass(kind, DuramenError) and (ERRORS.get(kind.__name__) is kind or issubclass(kind, HandlerRaised)):
            return [_ERROR, self._pack_error(value, _MOST_CAUSES)]
        if self._registry.message_name(kind) is None:
            self._refuse(value, kind, where)
        name, version, fields = self._registry.dump_message(value)
        return [_DECLARED, [name, version, *self._pack_fields(fields, depth)]]

    def _pack_own(self, value: Any, name: str, defaults: tuple[tuple[str, Any], ...], depth: int) -> list[Any]:
        fields = {field: found for field, default in defaults if (found := getattr(value, field)) is not default}
        return [_OWN, [name, *self._pack_fields(fields, depth)]]

    def _pack_fields(self, fields: Mapping[str, Any], depth: int) -> list[dict[str, Any]]:
        """The plain fields, and after them the others, packed, if there are any."""
        plain_ones: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in fields.items():
            # Plain data within every limit, as most fields are, takes a third of the cost of a check.
            kind = _type_of(value)
            if kind is str or kind is bytes:
                is_small = len(value) <= _SMALL and (kind is bytes or value.isascii())
            elif kind is int:
                is_small = _INT_MIN <= value <= _INT_MAX
            else:
                is_small = value is None or kind is bool or kind is float
            if is_small:
                plain_ones[name] = value
                continue
            packed = self.pack(value, name, depth + 1)
            if packed[0] == _PLAIN:
                plain_ones[name] = packed[1]
            else:
                others[name] = packed
        return [plain_ones, others] if others else [plain_ones]

    def _refuse(self, value: object, kind: type[Any], where: str) -> None:
        """Raise the error for a value that does not cross."""
        if where == "message" or attrs.has(kind):
            raise UnknownMessageType(
                f"{where} is of type {describe_type(value)}, which does not cross to another process; put "
                "@message_type(name) above its @frozen, or send plain data",
                actual=describe_type(value),
            )
        check_value(value, self._limits, where)

    def pack_error(self, error: BaseException, agent: str) -> dict[str, Any]:
        if not isinstance(error, Exception):
            error = DuramenError(f"a handler of {agent} ended by {type(error).__name__}", agent=agent)
        return self._pack_error(to_caller_error(error, agent), _MOST_CAUSES)

    def _pack_error(self, error: DuramenError, causes: int) -> dict[str, Any]:
        names = [base.__name__ for base in type(error).__mro__ if ERRORS.get(base.__name__) is base]
        packed: dict[str, Any] = {"types": names[:-1] or names, "text": clean_text(str(error))}
        for fact in _FACTS:
            value = getattr(error, fact)
            if value is not None:
                packed[fact] = self._pack_fact(value)
        if isinstance(error, HandlerRaised):
            return packed | {"base": base_name(type(error)), "kind": error.kind, "raised": error.text}
        if isinstance(error, StepFailed):
            packed |= {"kind": error.kind, "raised": error.text, "data": self._pack_fact(error.data)}
        if isinstance(error.__cause__, Exception) and causes:
            packed["cause"] = self._pack_error(to_caller_error(error.__cause__, str(error.agent)), causes - 1)
        return packed

    def _pack_fact(self, value: Any) -> list[Any]:
        packer = _PACKERS.get(cast("type[Any]", type(value)))
        if packer is not None:
            return packer(value)
        try:
            check_value(value, self._limits, "a fact")
        except DuramenError:
            return [_PLAIN, describe_type(value)]
        return [_PLAIN, value]


class _Unpacking:
    """Turns what was packed into a value equal in value and type. Raises exceptions of any class for other data."""

    def __init__(self, registry: EventRegistry) -> None:
        self._registry = registry

    def unpack(self, packed: Any) -> Any:
        code, content = packed
        if code == _PLAIN:
            return content
        if code == _OWN:
            name, *fields = content
            return _find_own(name)(**self._unpack_fields(fields))
        if code == _DECLARED:
            name, version, *fields = content
            return self._registry.load_message(name, version, self._unpack_fields(fields))
        if code == _LIST:
            return [self.unpack(item) for item in content]
        if code == _TUPLE:
            return tuple(self.unpack(item) for item in content)
        if code == _DICT:
            return {key: self.unpack(item) for key, item in content.items()}
        if code == _VIEW:
            return read_only(self.unpack(content))
        if code == _ERROR:
            return self.unpack_error(content)
        return _UNPACKERS[code](content)

    def _unpack_fields(self, fields: list[Any]) -> dict[str, Any]:
        plain_ones, *others = fields
        for packed in others:
            plain_ones |= {name: self.unpack(value) for name, value in packed.items()}
        return cast("dict[str, Any]", plain_ones)

    def unpack_error(self, packed: Any) -> DuramenError:
        facts = {fact: self.unpack(packed[fact]) for fact in _FACTS if fact in packed}
        cls = next((ERRORS[name] for name in packed["types"] if name in ERRORS), DuramenError)
        if cls is HandlerRaised:
            raised = raised_class(packed["base"])
            return raised(packed["text"], kind=packed["kind"], text=packed["raised"], **facts)
        if issubclass(cls, StepFailed):
            facts |= {"kind": packed["kind"], "text": packed["raised"], "data": self.unpack(packed["data"])}
        error = cls(packed["text"], **facts)
        if "cause" in packed:
            error.__cause__ = self.unpack_error(packed["cause"])
        return error


def _find_own(name: str) -> type[Any]:
    cls = _OWN_CLASSES.get(name)
    if cls is None:
        raise UnknownMessageType(
            f"duramen's {printable(str(name))!r} is not known here; run the same release in all processes"
        )
    return cls


_PLAIN_TYPES: Final = frozenset((type(None), bool, int, float, str, bytes, datetime, list, dict))
_PACKERS: Final[dict[type[Any], Callable[[Any], list[Any]]]] = {
    UUID: lambda value: [_UUID, value.bytes],
    timedelta: lambda value: [_TIMEDELTA, [value.days, value.seconds, value.microseconds]],
    PropertyPath: lambda value: [_PROPERTY_PATH, list(value.segments)],
    AgentPath: lambda value: [_AGENT_PATH, value.text],
    Granularity: lambda value: [_GRANULARITY, value.value],
    results.Outcome: lambda value: [_OUTCOME, value.value],
    type(MISSING): lambda _: [_SENTINEL, 0],
}
_UNPACKERS: Final[dict[int, Callable[[Any], Any]]] = {
    _UUID: lambda content: UUID(bytes=content),
    _TIMEDELTA: lambda content: timedelta(*content),
    _PROPERTY_PATH: lambda content: PropertyPath(tuple(content)),
    _AGENT_PATH: AgentPath.parse,
    _GRANULARITY: Granularity,
    _OUTCOME: results.Outcome,
    _SENTINEL: lambda _: MISSING,
}
