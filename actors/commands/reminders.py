"""The messages about reminders, and the decisions on them. A reminder is a durable message that is due at times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from threading import TIMEOUT_MAX
from typing import Any, Final, Literal, cast

from attrs import field, frozen

from duramen.events import InvalidMessage, Limits, MailboxFull, NewEvent, Receipt, TooLarge
from duramen.events.codec import Codec, to_datetime, to_microseconds
from duramen.events.model import REMINDER_SET, REMINDER_STOPPED, Seconds, check_value, parse_seconds
from duramen.projections import AgentState
from duramen.projections.state import reminders

from .conditions import require_alive, require_running
from .message import Message, Mutation, copy_mapping
from .results import nothing
from .work import Accept, check_durable_message, require_name

Missed = Literal["once", "skip", "all"]

MOST_REMINDERS: Final = 1_000
"""Reminders of one agent."""
_MOST_BYTES: Final = 16_384
"""Of a reminder's message: it is in each snapshot of its agent."""
_LEAST_PERIOD: Final = 0.1
"""Seconds between two deliveries."""
_MISSED: Final = ("once", "skip", "all")
_MICROSECOND: Final = timedelta(microseconds=1)
_LEAST: Final = timedelta(seconds=_LEAST_PERIOD) // _MICROSECOND
_MOST: Final = timedelta(seconds=TIMEOUT_MAX) // _MICROSECOND
"""What `parse_seconds` lets through, in µs."""
_FIRST: Final = to_microseconds(datetime.min.replace(tzinfo=UTC))
_LAST: Final = to_microseconds(datetime.max.replace(tzinfo=UTC))


@frozen(kw_only=True)
class Reminder:
    """A durable message that an agent will get."""

    agent: str
    name: str
    message_type: str
    """The name of the message's type."""
    version: int
    due: datetime
    """When it is delivered next."""
    every: timedelta | None
    """The time between two deliveries; None: there is one."""
    missed: str
    """What becomes of times at which it could not be delivered: `once`, `skip` or `all`."""
    is_parked: bool
    """Whether it was set in another log, and is not delivered here: set it again where it is to be."""


@frozen
class Remind(Mutation[Receipt]):
    """Set a reminder, in place of one of the same name: a durable message that is accepted when it is due."""

    name: str
    type: str
    version: int
    data: Mapping[str, Any] = field(factory=nothing, converter=copy_mapping)
    at: int | None = None
    """When it is due first, in µs since the epoch; None: `every` from now."""
    every: int | None = None
    """µs between two deliveries; None: there is one."""
    missed: Missed = "once"
    command_id: str | None = None
    durability: str | None = None


@frozen
class RemoveReminder(Mutation[Receipt]):
    """Remove a reminder, if there is one of this name."""

    name: str
    command_id: str | None = None
    durability: str | None = None


@frozen
class GetReminders(Message[list[Reminder]]):
    """List the agent's reminders, in the order in which they were set."""


def make_remind(name: str, message: Accept, *, at: datetime | None, every: Seconds | None, missed: Missed) -> Remind:
    """The message that sets a reminder of a durable message. Raises InvalidMessage."""
    if at is not None and (not isinstance(cast("object", at), datetime) or at.utcoffset() is None):
        raise InvalidMessage(f"reminder {name}: at is a datetime with a time zone", actual=type(at).__name__)
    period = None if every is None else parse_seconds("every", every, least=_LEAST_PERIOD)
    remind = Remind(
        name,
        message.type,
        message.version,
        message.data,
        None if at is None else to_microseconds(at),
        None if period is None else timedelta(seconds=period) // _MICROSECOND,
        missed,
        message.command_id,
    )
    _check(remind)
    return remind


def _check(message: Remind) -> None:
    """Raise InvalidMessage for what would fail when the reminder is due: it may come from a caller as it is."""
    name, at, every = require_name(message.name, "a reminder"), message.at, message.every
    check_durable_message(message.type, message.version)
    if at is None and every is None:
        raise InvalidMessage(f"reminder {name} is due `at` a time, `every` so many seconds, or both")
    if at is not None and (type(at) is not int or not _FIRST <= at <= _LAST):
        raise InvalidMessage(f"reminder {name} is due at a time in the years 1 to 9999 of UTC, in µs", actual=at)
    if every is not None and (type(every) is not int or not _LEAST <= every <= _MOST):
        raise InvalidMessage(f"reminder {name} is due every so many µs, 0.1 s to 292 years", actual=every)
    if message.missed not in _MISSED:
        raise InvalidMessage(f"reminder {name}: missed is one of {', '.join(_MISSED)}", actual=message.missed)
    if every is None and message.missed != "once":
        raise InvalidMessage(
            f"reminder {name}: without `every` it is delivered once, however late", actual=message.missed
        )


def decide_remind(state: AgentState, message: Remind, limits: Limits, agent: str, *, log: str) -> list[NewEvent]:
    """`log` is the agent's, as `name_log` names it: reminders of an agent that was imported are parked."""
    require_running(state, agent)
    _check(message)
    found = reminders(state)
    if message.name not in found and len(found) >= MOST_REMINDERS:
        raise MailboxFull(f"{agent} has {MOST_REMINDERS} reminders; remove some", agent=agent, expected=MOST_REMINDERS)
    data = dict(message.data)
    check_value(data, limits, f"a {message.type}")
    size = len(Codec(limits).pack(data))
    if size > _MOST_BYTES:
        raise TooLarge(
            f"the message of reminder {message.name} has {size} bytes; keep what it is about in working memory",
            agent=agent,
            expected=_MOST_BYTES,
            actual=size,
        )
    values = {"name": message.name, "message_type": message.type, "version": message.version, "data": data}
    values |= {"at": message.at, "every": message.every, "missed": message.missed, "log": log}
    return [NewEvent(REMINDER_SET, values)]


def decide_remove_reminder(state: AgentState, message: RemoveReminder, limits: Limits, agent: str) -> list[NewEvent]:
    require_alive(state, agent)
    name = require_name(message.name, "a reminder")
    return [NewEvent(REMINDER_STOPPED, {"name": name, "parked": False})] if name in reminders(state) else []


def reminders_of(state: AgentState, agent: str) -> list[Reminder]:
    """The reminders of a state."""
    return [
        Reminder(
            agent=agent,
            name=name,
            message_type=each["message_type"],
            version=each["version"],
            due=to_datetime(each["due"]),
            every=None if each["every"] is None else timedelta(microseconds=each["every"]),
            missed=each["missed"],
            is_parked=each["parked"],
        )
        for name, each in reminders(state).items()
    ]
