"""The reminders of one agent: durable messages that become due at times that stand in its log. Pure.

`AgentState.work["reminders"]`: name → a `Reminder`, in the order in which they were set. Nothing in it is changed in
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from .agent_state import AgentState, message_type_of
from .undo import Undo

Reminder: TypeAlias = dict[str, Any]
"""One reminder:

- `message_type`, `version`, `data`: the durable message
- `due`: when it is delivered next, µs
- `every`: µs between two deliveries; None: there is one
- `missed`: what becomes of times at which the agent could not be reached: `once`, `skip` or `all`
- `log`: identity of the log in which it was set
- `parked`: whether it was set in another log, and is not delivered here
"""

REMINDERS: Final = "reminders"

_Data: TypeAlias = dict[str, Any]


def reminders(state: AgentState) -> Mapping[str, Reminder]:
    """The reminders by name."""
    found: Mapping[str, Reminder] = state.work.get(REMINDERS, {})
    return found


def next_reminder(state: AgentState) -> int | None:
    """When the next reminder is due, in µs; None: there is none that is delivered here."""
    return min((each["due"] for each in reminders(state).values() if not each["parked"]), default=None)


def fold_reminder_set(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    reminder = {name: data[name] for name in ("version", "data", "every", "missed", "log")}
    reminder["message_type"] = message_type_of(data)
    at = data["at"]
    reminder |= {"due": time + data["every"] if at is None else at, "parked": False}
    _replace(state, {**_without(state, data["name"]), data["name"]: reminder})


def fold_reminder_stopped(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    name, found = data["name"], reminders(state)
    if data["parked"] and name in found:
        _replace(state, {**found, name: {**found[name], "parked": True}})
    else:
        _replace(state, _without(state, name))


def fold_reminder_due(state: AgentState, data: _Data, time: int, undo: list[Undo] | None) -> None:
    name, found = data["name"], reminders(state)
    if data["next"] is None:
        _replace(state, _without(state, name))
    elif name in found:
        _replace(state, {**found, name: {**found[name], "due": data["next"]}})


def _without(state: AgentState, name: str) -> dict[str, Reminder]:
    return {other: reminder for other, reminder in reminders(state).items() if other != name}


def _replace(state: AgentState, found: dict[str, Reminder]) -> None:
    state.work = {**state.work, REMINDERS: found}
