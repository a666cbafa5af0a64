"""Events before and after they are stored, and the receipt of a committed command."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

from attrs import fields, frozen

from .values import copy_plain


class Granularity(IntEnum):
    """How much is logged and delivered. Each level includes the levels before it."""

    LIFECYCLE = 1
    STATE = 2
    ACTIVITY = 3
    TRACE = 4


class NewEvent(NamedTuple):
    """An event before it is stored. A tuple, since each mutation makes one.

    `data` is plain data with text keys, `granularity` the value of a Granularity.
    """

    type: str
    data: dict[str, Any]
    version: int = 1
    granularity: int = 2
    metadata: dict[str, Any] | None = None


@frozen(weakref_slot=False)  # see `construct_event`
class Event:
    """A stored event.

    `agent` is the agent path as text, `seq` the position in its log (1, 2, 3 …), `time` the server's clock as the
    writer knows it, aware, in UTC; it may decrease from event to event. `data` is plain data of the newest version
    registered here; it is its reader's own. `digest` is 16 bytes over all events up to this one.
    """

    agent: str
    seq: int
    time: datetime
    type: str
    version: int
    data: dict[str, Any]
    session_id: str | None
    command_id: str | None
    causation_id: str | None
    correlation_id: str | None
    granularity: Granularity
    metadata: dict[str, Any] | None
    digest: bytes


class MutableEvent:
    """A class with the slots of `Event`, which can be set."""

    __slots__ = tuple(field.name for field in fields(Event))


def construct_event(values: tuple[Any, ...]) -> Event:
    """Construct an `Event` of its fields, in order, in a third of the time: readers of a million make a million.

    A frozen class sets each attribute by a call, a `MutableEvent` by one instruction. Assigning `__class__` needs
    two classes of the same slots, without a slot for weak references, which each would place elsewhere.
    """
    made: Any = MutableEvent()
    (
        made.agent,
        made.seq,
        made.time,
        made.type,
        made.version,
        made.data,
        made.session_id,
        made.command_id,
        made.causation_id,
        made.correlation_id,
        made.granularity,
        made.metadata,
        made.digest,
    ) = values
    made.__class__ = Event
    event: Event = made
    return event


def copy_event(event: Event) -> Event:
    """Return an event that shares no dict or list with this one."""
    made: Any = MutableEvent()  # as in `construct_event`
    made.agent = event.agent
    made.seq = event.seq
    made.time = event.time
    made.type = event.type
    made.version = event.version
    made.data = _copy_data(event.data)
    made.session_id = event.session_id
    made.command_id = event.command_id
    made.causation_id = event.causation_id
    made.correlation_id = event.correlation_id
    made.granularity = event.granularity
    made.metadata = None if event.metadata is None else _copy_data(event.metadata)
    made.digest = event.digest
    made.__class__ = Event
    copied: Event = made
    return copied


def _copy_data(data: dict[str, Any]) -> dict[str, Any]:
    for value in data.values():
        if type(value) is dict or type(value) is list:
            copied: dict[str, Any] = copy_plain(data)
            return copied
    return data.copy()  # most are of scalars


class Receipt(NamedTuple):
    """The result of an acknowledged mutation. A tuple: a frozen attrs class takes five times as long to make.

    Its events are `first_seq` to `seq` (last) of the agent's log, and `digest` is that of the last one. A command
    that logged nothing (a record below the agent's granularity) has `first_seq == seq + 1`.
    `durability` is the level reached when the call returned: `memory`, `fsync` or `replicas:n`.
    """

    agent: str
    first_seq: int
    seq: int
    digest: bytes
    durability: str
