"""A part of a log for a page to step through without asking: a state, and what each event after it has written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from duramen.events import Content, CorruptEvent, DuramenError, Event, PathNotFound
from duramen.events.codec import RawEvent
from duramen.events.model import ACTIVITY_RECORDED
from duramen.projections.history import (
    Causes,
    TracedState,
    Write,
    build_traced,
    headline,
    traced_base,
    traced_states,
    writes_between,
)
from duramen.projections.recovery import AgentLog, state_before, within
from duramen.projections.state import MISSING, lookup

from .encoding import MOST_ITEMS, Room, as_dict, as_list, encode_plain, encode_scalar, encode_tree, latest
from .log_index import WINDOW, LogIndex

_HEADLINE: Final = 160
_KEY_ROOM: Final = 128 * 1024
_WRITE_ROOM: Final = 256 * 1024
_ONE_WRITE: Final = 8 * 1024
_MOST_BRIEF: Final = 8
_PREVIEW: Final = 120
MOST_CAUSES: Final = 12


def window(agent_log: AgentLog, index: LogIndex, seq: int) -> dict[str, Any]:
    """The window of the log that `seq` lies in, up to an event that is damaged.

    Raises AgentNotFound, InvalidMessage, Trimmed, CorruptEvent.

    `state` is working memory at `from`; `events` has each event after it up to `to`. An event's `writes` are rows of
    path, value, setter, and 1 where nothing was before; without a value, what was at the path is gone.
    """
    head = agent_log.head()
    within(agent_log.agent, head, seq)
    first = max(head.base, (max(seq, 1) - 1) // WINDOW * WINDOW)
    last = min(head.seq, first // WINDOW * WINDOW + WINDOW)
    traced = is_traced(index, first)  # before the state is made: the index grows meanwhile
    start = traced_at(agent_log, index, first)
    room = Room(_WRITE_ROOM)
    events: list[dict[str, Any]] = []
    before = start
    try:
        for raw, after in traced_states(agent_log, start, last):
            events.append(_event_row(agent_log, raw, before, after, room))
            before = after
    except CorruptEvent:
        if before.seq < seq:
            raise
    if traced:
        index.remember(before)
    return {
        "agent": agent_log.agent,
        "from": first,
        "to": before.seq,
        "head": head.seq,
        "base": head.base,
        "traced": traced,
        "state": encode_tree(start.memory, start.setters, Room(_KEY_ROOM)),
        "status": start.state.status,
        "session": start.state.session_id,
        "events": events,
    }


def level_at(agent_log: AgentLog, index: LogIndex, seq: int, segments: Sequence[str], first: int) -> dict[str, Any]:
    """The value at a path, a level of the tree. Raises PathNotFound, InvalidMessage."""
    state = traced_at(agent_log, index, seq)
    value, setters = lookup(state.memory, segments), lookup(state.setters, segments)
    node = encode_tree(value, setters, Room(), first=first)
    return {"seq": seq, "first": first, "node": node, "setter": latest(setters)}


def traced_at(agent_log: AgentLog, index: LogIndex, seq: int) -> TracedState:
    """The state at a seq with its setters; where the index does not reach so far yet, with 0 for those not known."""
    within(agent_log.agent, agent_log.head(), seq)
    frame = index.frame_before(seq)
    if frame is None or (frame.seq + WINDOW < seq and not is_traced(index, seq)):
        if seq == 0:
            return traced_base(agent_log)
        state = state_before(agent_log, seq=seq).state
        state.commands = {}
        return TracedState(state, _unknown(state.memory))
    traced = frame
    for _, traced in traced_states(agent_log, frame, seq):
        index.remember(traced)
    return traced


def is_traced(index: LogIndex, seq: int) -> bool:
    """Whether the index knows the setters at a seq."""
    return index.base <= seq <= index.seq


def _unknown(value: Any) -> Any:
    held = as_dict(value)
    if held is not None:
        return {key: _unknown(child) for key, child in held.items()}
    listed = as_list(value)
    return 0 if listed is None else [_unknown(child) for child in listed]


def _event_row(
    agent_log: AgentLog, raw: RawEvent, before: TracedState, after: TracedState, room: Room
) -> dict[str, Any]:
    title, detail = describe(agent_log, raw, after)
    row: dict[str, Any] = {
        "seq": after.seq,
        "type": raw[0],
        "level": raw[2],
        "time": raw[3],
        "title": title,
        "detail": detail,
        "writes": [_encode_write(write, room) for write in _bounded(raw, before, after, room)],
    }
    if after.state.status != before.state.status:
        row["status"] = after.state.status
    if after.state.session_id != before.state.session_id:
        row["session"] = after.state.session_id
    return row


def describe(agent_log: AgentLog, raw: RawEvent, after: TracedState) -> tuple[str, str]:
    """The headline of an event, and the beginning of its values."""
    try:
        event = build_traced(agent_log, raw, after)
        title = headline(event)
    except DuramenError:  # of a type that is not registered here, and cannot be upcast
        return raw[0][:_HEADLINE], ""
    return title[:_HEADLINE], brief_data(event.type, event.data)


def brief_data(kind: str, data: Any) -> str:
    """The beginning of what an event says, in a line."""
    said: Any = data["data"] if kind == ACTIVITY_RECORDED else data
    fields = as_dict(said) or {}
    for name in ("value", "values", "patch", "memory", "outcome_details", "error"):
        if fields.get(name) not in (None, [], {}):
            return brief(fields[name])
    return brief(said) if kind == ACTIVITY_RECORDED else ""


def brief(value: Any, most: int = _PREVIEW) -> str:
    """The beginning of a value in a line, for people; a message of a chat by its role, a tool by its name."""
    if type(value) is str:
        return " ".join(value[: 2 * most].split())[:most]
    fields = as_dict(value)
    if fields is not None:
        return _brief_dict(fields, most)[:most]
    listed = as_list(value)
    if listed is not None:
        if len(listed) == 1 and "role" in (as_dict(listed[0]) or {}):
            return brief(listed[0], most)
        return f"[{', '.join(brief(held, 40) for held in listed[:_MOST_BRIEF])}]"[:most]
    if isinstance(value, Content):
        return str(value)[:most]
    shown = encode_scalar(value)
    tagged = as_dict(shown)
    return str("null" if shown is None else shown if tagged is None else tagged["v"])[:most]


def _brief_dict(fields: dict[str, Any], most: int) -> str:
    role, tool = fields.get("role"), fields.get("tool")
    if type(role) is str:
        said = fields.get("content") or ("calls tools" if fields.get("tool_calls") else "")
        return f"{role[:40]}: {brief(said, most)}"
    if type(tool) is str:
        return f"{tool[:80]} {brief(fields.get('result', fields.get('arguments')), most)}"
    inside = ", ".join(f"{key[:40]}: {brief(held, 40)}" for key, held in islice(fields.items(), _MOST_BRIEF))
    return f"{{{inside}}}"


def _bounded(raw: RawEvent, before: TracedState, after: TracedState, room: Room) -> list[Write]:
    """The writes of an event; those to whole items where the answer has no room for more."""
    if before.memory is after.memory and before.setters is after.setters:
        return []
    writes = writes_between(before, after, raw)
    if not room.is_full:
        return writes
    items = list(dict.fromkeys(write.path[:1] for write in writes))
    if len(items) > MOST_ITEMS or () in items:
        return [Write((), after.memory, after.setters)]
    return [
        Write(
            path,
            after.memory.get(path[0], MISSING),
            after.setters.get(path[0], MISSING),
            is_new=path[0] not in before.memory,
        )
        for path in items
    ]


def _encode_write(write: Write, room: Room) -> list[Any]:
    if write.value is MISSING:
        room.left -= _PREVIEW
        return [list(write.path)]
    own = Room(0 if room.is_full else min(_ONE_WRITE, room.left))
    given = own.left
    node = encode_tree(write.value, write.setters, own, text=40 if room.is_full else 300)
    room.left -= max(given - own.left, 0) + sum(map(len, write.path)) + 16
    row = [list(write.path), node, latest(write.setters)]
    return [*row, 1] if write.is_new else row


def event_at(agent_log: AgentLog, seq: int) -> dict[str, Any]:
    """All of one event, with its causes. Raises PathNotFound for a seq that is not there."""
    found = next(agent_log.events(seq, seq), None) if seq > 0 else None
    if found is None:
        raise PathNotFound(f"{agent_log.agent} has no event {seq}", agent=agent_log.agent, seq=seq)
    causes = Causes(agent_log).causes(found)
    tool = Causes(agent_log).tool(found, causes)
    return {
        "agent": found.agent,
        "seq": seq,
        "type": found.type,
        "version": found.version,
        "level": found.granularity.name.lower(),
        "time": found.time.isoformat(),
        "title": headline(found)[:_HEADLINE],
        "session": found.session_id,
        "command": found.command_id,
        "cause": found.causation_id,
        "correlation": found.correlation_id,
        "digest": found.digest.hex(),
        "data": encode_plain(found.data, Room(64 * 1024)),
        "metadata": encode_plain(found.metadata, Room(8 * 1024)) if found.metadata else None,
        "causes": [event_row(cause) for cause in causes[:MOST_CAUSES]],
        "tool": None if tool is None else event_row(tool),
    }


def event_row(event: Event) -> dict[str, Any]:
    """An event of any agent, in a line."""
    row = {
        "agent": event.agent,
        "seq": event.seq,
        "type": event.type,
        "title": headline(event)[:_HEADLINE],
        "detail": brief_data(event.type, event.data),
        "time": event.time.isoformat(),
    }
    recorded = as_dict(event.data.get("data")) if event.type == ACTIVITY_RECORDED else None
    return row if recorded is None else {**row, "tool": str(recorded.get("tool", ""))[:_PREVIEW]}
