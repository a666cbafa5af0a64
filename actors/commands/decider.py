"""Decisions: a message and an agent's state give events, or a typed error. Pure: no clock, no ids, no server.

Everything that is neither in the state nor in the message is an argument. An empty list means nothing to log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeAlias, cast

from attrs import frozen

from duramen.events import (
    AgentAlreadyRunning,
    AgentPaused,
    Granularity,
    InvalidMessage,
    InvalidPath,
    Limits,
    NewEvent,
    PathNotFound,
    PropertyPath,
    TooLarge,
    agent_path,
    property_segments,
)
from duramen.events.codec import to_datetime
from duramen.events.model import (
    ACTIVITY_RECORDED,
    CHILD_SPAWNED,
    EPISODE_RECORDED,
    GRANULARITY_SET,
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_RESTORED,
    MEMORY_SET,
    PAUSED,
    RESTARTED,
    RESUMED,
    RETENTION_SET,
    SPAWNED,
    TERMINATED,
    check_value,
    parse_seconds,
    printable,
    property_text,
)
from duramen.projections import AgentState
from duramen.projections.state import (
    FAILED_STATUS,
    MISSING,
    PAUSED_STATUS,
    REQUIRED,
    RUNNING,
    Op,
    find,
)

from .conditions import plain_dict, plain_id, require_alive, require_not_failed, require_running
from .messages import (
    AdoptChild,
    Append,
    Delete,
    Extend,
    Merge,
    Pause,
    Pop,
    Record,
    Restart,
    Resume,
    Set,
    SetGranularity,
    SetRetention,
    Spawn,
    Terminate,
)
from .results import Outcome
from .retention import retention_to_data

Decide: TypeAlias = Callable[[AgentState, Any, Limits, str], Sequence[NewEvent]]
"""The events of a message to an agent in a state. Raises what the message is refused with."""

_LIFECYCLE: Final = int(Granularity.LIFECYCLE)
_CASCADE: Final = 6
"""Where a checkpoint of the state has the cascade that took it."""
_KIND: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z")
_LONGEST_LIFE: Final = 36_500 * 86_400.0


def _require_room(state: AgentState, nodes: int, limits: Limits, agent: str) -> None:
    # The nodes of a replaced value are not subtracted: counting them would cost a walk over it.
    if state.nodes + nodes > limits.state_nodes:
        raise TooLarge(
            f"the working memory of {agent} would have more than {limits.state_nodes} values; delete some, or raise "
            "Limits.state_nodes",
            agent=agent,
            expected=limits.state_nodes,
            actual=state.nodes + nodes,
        )


_new_event: Final[Callable[[tuple[Any, ...]], NewEvent]] = partial(cast("Any", tuple).__new__, NewEvent)
"""`NewEvent` from all its fields, in a third of the time."""


def _level(value: object, what: str) -> int:
    if type(value) is Granularity:
        return value.value
    try:
        return int(Granularity(cast("int", value)))  # type and range in one
    except ValueError:
        raise InvalidMessage(f"{what} must be a Granularity") from None


def _name_of(level: int) -> str:
    return Granularity(level).name.lower()


def _levels(levels: Mapping[str, Any], *, removable: bool) -> dict[str, Any]:
    given = cast("object", levels)
    if not isinstance(given, Mapping):
        raise InvalidMessage("levels map kinds of activity to a Granularity")
    for kind in levels:
        _require_kind(kind)
    return {
        kind: None if removable and level is None else _name_of(_level(level, f"the level of {kind}"))
        for kind, level in levels.items()
    }


def _require_kind(kind: object) -> None:
    if type(kind) is not str or not _KIND.match(kind):
        raise InvalidMessage("a kind of activity is named by [a-z][a-z0-9_.-]*, at most 64 characters")


# -- working memory and activity ---------------------------------------------------------------------------------------


def _decide_set(state: AgentState, message: Set, limits: Limits, agent: str) -> list[NewEvent]:
    if state.status != RUNNING:
        require_running(state, agent)
    path, value = property_text(message.path), message.value
    nodes = check_value(value, limits)
    if state.nodes + nodes > limits.state_nodes:
        _require_room(state, nodes, limits, agent)
    return [_new_event((MEMORY_SET, {"path": path, "value": value}, 1, 2, None))]


def _decide_delete(state: AgentState, message: Delete, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    return [NewEvent(MEMORY_DELETED, {"path": property_text(message.path)})]


def _decide_append(state: AgentState, message: Append, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    path = property_text(message.path)
    nodes = check_value(message.value, limits)
    _require_room(state, nodes, limits, agent)
    return [NewEvent(MEMORY_APPENDED, {"path": path, "values": [message.value]})]


def _decide_extend(state: AgentState, message: Extend, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    given = cast("object", message.values)
    if not isinstance(given, (list, tuple)):
        raise InvalidMessage("a list is extended by a list of values", agent=agent, actual=type(given).__name__)
    path, values = property_text(message.path), list(message.values)
    _require_room(state, check_value(values, limits, "values"), limits, agent)
    if not values and type(find(state.memory, property_segments(path))) is list:
        return []
    return [NewEvent(MEMORY_APPENDED, {"path": path, "values": values})]


def decide_pop(state: AgentState, message: Pop, limits: Limits, agent: str) -> tuple[Any, list[NewEvent]]:
    """The value that is taken out, part of the state still, and the event; the default without one."""
    require_running(state, agent)
    segments, key = property_segments(message.path), message.key
    found, segment = find(state.memory, segments), ""
    value: Any = MISSING
    if type(found) is list and type(key) is int:
        index = key + len(found) if key < 0 else key
        if 0 <= index < len(found):
            value, segment = found[index], str(index)
    elif type(found) is dict and type(key) is str:
        value, segment = found.get(key, MISSING), key
    elif found is not MISSING or type(key) not in (int, str):
        raise InvalidPath(
            f"a value is popped by its position from a list, or by its key from a dict; at "
            f"'{printable(str(message.path)[:80])}' is no such container",
            agent=agent,
            expected="list" if type(key) is int else "dict",
            actual=type(found).__name__,
        )
    if value is not MISSING:
        return value, [NewEvent(MEMORY_DELETED, {"path": PropertyPath((*segments, segment)).text})]
    if message.default is not REQUIRED:
        check_value(message.default, limits, "default")
        return message.default, []
    raise PathNotFound(f"nothing to pop at '{printable(str(message.path)[:80])}'; give a default", agent=agent)


def _decide_merge(state: AgentState, message: Merge, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    segments, patch = property_segments(message.path), message.patch
    nodes = check_value(patch, limits, "patch")
    if not segments and type(patch) is not dict:
        raise InvalidPath("only a dict can be merged into the whole working memory; name a path", agent=agent)
    _require_room(state, nodes, limits, agent)
    return [NewEvent(MEMORY_MERGED, {"path": property_text(message.path), "patch": patch})]


def _decide_record(state: AgentState, message: Record, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    _require_kind(message.kind)
    level = _level(message.level, "level")
    if level < Granularity.ACTIVITY:
        raise InvalidMessage("a record's level is Granularity.ACTIVITY or TRACE", actual=level)
    check_value(message.data, limits, "data")
    if not state.logs(message.kind, level):
        return []
    return [NewEvent(ACTIVITY_RECORDED, {"kind": message.kind, "data": message.data}, granularity=level)]


DECIDERS: Final[Mapping[type[Any], Decide]] = {
    Set: _decide_set,
    Delete: _decide_delete,
    Append: _decide_append,
    Extend: _decide_extend,
    Merge: _decide_merge,
    Record: _decide_record,
}
"""Of the messages that may be part of a `Batch`."""


def decide_set_granularity(state: AgentState, message: SetGranularity, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    level = None if message.level is None else _name_of(_level(message.level, "level"))
    levels = _levels(message.levels, removable=True)
    if level is None and not levels:
        raise InvalidMessage("SetGranularity needs a level, or levels by kind", agent=agent)
    return [NewEvent(GRANULARITY_SET, {"level": level, "levels": levels})]


def decide_set_retention(state: AgentState, message: SetRetention, limits: Limits, agent: str) -> list[NewEvent]:
    require_alive(state, agent)
    return [NewEvent(RETENTION_SET, {"retention": retention_to_data(message.retention)})]


# -- lifecycle ---------------------------------------------------------------------------------------------------------


def decide_spawn(state: AgentState, message: Spawn, limits: Limits, agent: str, *, session_id: str) -> list[NewEvent]:
    """`session_id` is used if the message has none."""
    if state.status in (RUNNING, PAUSED_STATUS, FAILED_STATUS):
        raise AgentAlreadyRunning(
            f"{agent} has a session already ({state.status}); go on with it, or terminate it for a new one",
            agent=agent,
            seq=state.seq,
            actual=state.status,
        )
    memory, nodes = plain_dict(message.initial_state, "initial_state", limits)
    metadata, _ = plain_dict(message.metadata, "metadata", limits)
    _require_room(state, nodes, limits, agent)
    return [
        NewEvent(
            SPAWNED,
            {
                "session_id": plain_id(message.session_id, "session_id") or session_id,
                "agent_type": plain_id(message.agent_type, "agent_type"),
                "metadata": metadata,
                "memory": memory,
                "parent": None if message.parent is None else agent_path(message.parent).text,
                "granularity": _name_of(_level(message.granularity, "granularity")),
                "levels": _levels(message.levels, removable=False),
                **_expiry_of(message),
            },
            granularity=_LIFECYCLE,
        )
    ]


def _expiry_of(message: Spawn) -> dict[str, Any]:
    """The field of a `spawned` event that says when the agent expires, where it does."""
    if message.expires_after is None:
        return {}
    seconds = parse_seconds("expires_after", message.expires_after)
    if not 0 < seconds <= _LONGEST_LIFE:
        raise InvalidMessage("expires_after is a positive number of seconds, at most 100 years, or None for ever")
    return {"expires_after": seconds}


def decide_restart(state: AgentState, message: Restart, limits: Limits, agent: str) -> list[NewEvent]:
    require_alive(state, agent)
    if state.status != FAILED_STATUS:
        return []
    return [NewEvent(RESTARTED, {}, granularity=_LIFECYCLE)]


def decide_adopt(state: AgentState, message: AdoptChild, limits: Limits, agent: str) -> list[NewEvent]:
    require_running(state, agent)
    path = agent_path(message.path)
    if not path.is_under(agent):
        raise InvalidPath(f"{path.text} is not under {agent}", agent=agent)
    data = {"path": path.text, "outlives": bool(message.outlives)}
    if state.children.get(path.text) == data["outlives"]:
        return []
    return [NewEvent(CHILD_SPAWNED, data, granularity=_LIFECYCLE)]


def decide_pause(
    state: AgentState,
    message: Pause,
    limits: Limits,
    agent: str,
    *,
    now: int,
    checkpoint_id: str,
    cascade: list[Any] | None,
) -> list[NewEvent]:
    """`now` is in µs; `checkpoint_id` is used if the message has none.

    `cascade` is an id and how many levels above the agent it began. A sub-agent that an earlier cascade from there has
    paused is paused again, so that a cascade that was cut off can be repeated.
    """
    require_alive(state, agent)
    if state.status == PAUSED_STATUS and not _repeats(state, cascade):
        raise AgentPaused(f"{agent} is already paused, at checkpoint {state.paused_at!r}", agent=agent, seq=state.seq)
    require_not_failed(state, agent)
    if message.when_paused not in ("refuse", "stash"):
        raise InvalidMessage("when_paused is 'refuse' or 'stash'")
    ttl = None if message.ttl is None else timedelta(seconds=parse_seconds("a checkpoint's ttl", message.ttl))
    if ttl is not None and not timedelta(seconds=1) <= ttl <= timedelta(days=36_500):
        raise InvalidMessage("a checkpoint's ttl is at least a second and at most 100 years, or None for ever")
    metadata, _ = plain_dict(message.metadata, "metadata", limits)
    return [
        NewEvent(
            PAUSED,
            {
                "checkpoint_id": plain_id(message.checkpoint_id, "checkpoint_id") or checkpoint_id,
                "keys_count": len(state.memory),
                "expires_at": None if ttl is None else to_datetime(now) + ttl,
                "metadata": metadata,
                "when_paused": message.when_paused,
                "reason": plain_id(message.reason, "reason"),
                **({} if cascade is None else {"cascade": cascade}),
            },
            granularity=_LIFECYCLE,
        )
    ]


def _repeats(state: AgentState, cascade: list[Any] | None) -> bool:
    """Whether this sub-agent was paused by a cascade that began where `cascade` does."""
    entry = state.checkpoints.get(state.paused_at or "", [])
    return cascade is not None and cascade[1] > 0 and len(entry) > _CASCADE and entry[_CASCADE][1] == cascade[1]


@frozen
class Resumed:
    """The checkpoint of a resume, and its changes, in groups of the size of one event."""

    checkpoint_id: str | None
    seq: int | None
    time: int | None
    items: int
    changes: list[list[Op]]


def decide_resume(state: AgentState, message: Resume, found: Resumed, agent: str) -> list[NewEvent]:
    require_alive(state, agent)
    restored = [NewEvent(MEMORY_RESTORED, {"ops": ops}) for ops in found.changes]
    data = {
        "checkpoint_id": found.checkpoint_id,
        "checkpoint_seq": found.seq,
        "checkpoint_timestamp": None if found.time is None else to_datetime(found.time),
        "clear_current": message.clear_current,
        "items_restored": found.items,
    }
    return [*restored, NewEvent(RESUMED, data, granularity=_LIFECYCLE)]


def decide_terminate(
    state: AgentState, message: Terminate, agent: str, *, episode: dict[str, Any] | None
) -> list[NewEvent]:
    """`episode` is the episode's plain data; None if the session is not stored."""
    require_alive(state, agent)
    events: list[NewEvent] = []
    if episode is not None:
        events.append(NewEvent(EPISODE_RECORDED, {"episode": episode}, granularity=_LIFECYCLE))
    data = {
        "outcome": outcome_of(message.outcome).value,
        "episode_id": None if episode is None else episode["id"],
        "items_consolidated": 0 if episode is None else len(state.memory),
        "items_cleared": len(state.memory) if message.cleanup_working else 0,
        "cleared": bool(message.cleanup_working),
        "reason": plain_id(message.reason, "reason"),
    }
    events.append(NewEvent(TERMINATED, data, granularity=_LIFECYCLE))
    return events


def outcome_of(value: object) -> Outcome:
    try:
        return Outcome(cast("str", value))  # accepts the plain text too
    except ValueError:
        raise InvalidMessage("outcome is one of success, failure, partial") from None
