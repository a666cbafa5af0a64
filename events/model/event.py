"""What happened, in types: events before and after they are stored, and what a committed command returns."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

from attrs import fields, frozen

__all__ = ["Event", "Granularity", "MutableEvent", "NewEvent", "Receipt", "construct_event"]


class Granularity(IntEnum):
    """How much is logged and delivered; each level includes those before it."""

    LIFECYCLE = 1
    STATE = 2
    ACTIVITY = 3
    TRACE = 4


class NewEvent(NamedTuple):
    """An event that is not stored yet: a wish. A tuple, since one is made for each mutation.

    `data` is plain data with text keys, `granularity` a Granularity's value.
    """

    type: str
    data: dict[str, Any]
    version: int = 1
    granularity: int = 2
    metadata: dict[str, Any] | None = None


@frozen(weakref_slot=False)  # see `construct_event`
class Event:
    """An event as the log has it: a fact.

    `agent` is the agent path as text, `seq` the position in its log (1, 2, 3 …), `time` the writer's clock, aware,
    in UTC: it need not grow from event to event. `data` is plain data of the newest version that is registered
    here; do not change it. `digest` is 16 bytes over all events up to this one.
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
    """An `Event` in the making: the same slots, which can be set."""

    __slots__ = tuple(field.name for field in fields(Event))


def construct_event(values: tuple[Any, ...]) -> Event:
    """An `Event` of all its fields in their order, in a third of the time: who reads a million makes as many.

    A frozen class sets each attribute by a call, a draft by one instruction. That a draft may become an event takes
    two classes of the same slots, and none for weak references, which would stand elsewhere in each of them.
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


class Receipt(NamedTuple):
    """What an acknowledged mutation returns. A tuple: a frozen attrs class takes five times as long to make.

    Its events are `first_seq` to `seq` (last) of the agent's log, and `digest` is that of the last one. A command
    that had nothing to log (a record under the agent's granularity) has `first_seq == seq + 1`.
    `durability` is what was reached when it returned: `memory`, `fsync` or `replicas:n`.
    """

    agent: str
    first_seq: int
    seq: int
    digest: bytes
    durability: str
