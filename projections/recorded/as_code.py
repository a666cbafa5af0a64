"""A log as short, readable Python: what a failing test shows, and what a test begins with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

from duramen.events import Event, EventRegistry, Granularity, InvalidMessage, Limits
from duramen.events.codec import Codec, RawEvent
from duramen.events.model import (
    ACTIVITY_RECORDED,
    DECLARED,
    MEMORY_SET,
    OWN_TYPES,
    PAUSED,
    RESUMED,
    SPAWNED,
    TERMINATED,
    same_value,
)

from ..state import AgentState
from .sealing import events_of, seal_events

Row: TypeAlias = tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], dict[str, Any]]
"""An event as type, data, and fields that differ from their default: `version`, `level`, `time` (µs), `session_id`,
`command`, `causation_id`, `correlation_id`, `metadata`."""

_FIELDS: Final = (
    "type",
    "version",
    "level",
    "time",
    "data",
    "session_id",
    "command",
    "causation_id",
    "correlation_id",
    "metadata",
)
_BEGIN: Final = 1_704_067_200_000_000  # 2024-01-01 in µs
_SECOND: Final = 1_000_000
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    SPAWNED: {
        "session_id": "s-1",
        "agent_type": None,
        "metadata": {},
        "memory": {},
        "parent": None,
        "granularity": "activity",
        "levels": {},
    },
    PAUSED: {
        "checkpoint_id": "x",
        "keys_count": 0,
        "expires_at": None,
        "metadata": {},
        "when_paused": "refuse",
        "reason": None,
    },
    RESUMED: {
        "checkpoint_id": "x",
        "checkpoint_seq": None,
        "checkpoint_timestamp": None,
        "clear_current": True,
        "items_restored": 0,
    },
    TERMINATED: {
        "outcome": "success",
        "episode_id": None,
        "items_consolidated": 0,
        "items_cleared": 0,
        "cleared": True,
        "reason": None,
    },
}
_LEVELS: Final = {ACTIVITY_RECORDED: int(Granularity.ACTIVITY)}


def expand_rows(rows: Iterable[Row]) -> list[RawEvent]:
    """Raw events of rows, with defaults filled in. Raises InvalidMessage for a row with an unknown field."""
    raws: list[RawEvent] = []
    session: str | None = None
    for seq, row in enumerate(rows, 1):
        kind, data, changes = row if len(row) == 3 else (*row, cast("dict[str, Any]", {}))
        unknown = set(changes) - set(_FIELDS)
        if unknown:
            raise InvalidMessage(f"row {seq}: an event has no {sorted(unknown)[0]!r}; it has {', '.join(_FIELDS)}")
        raw = _fill_in(kind, data, seq, session)
        for name, value in changes.items():
            raw[_FIELDS.index(name)] = value
        session = raw[5]
        raws.append(raw)
    return raws


def items_of(rows: Iterable[Row]) -> list[bytes]:
    """The stored items of rows."""
    return seal_events(expand_rows(rows), Codec(Limits()))


def log_of(*rows: Row, agent: str = "project/agent", registry: EventRegistry = DECLARED) -> list[Event]:
    """The events of a log written as rows: `("memory_set", {"path": "a", "value": 1})`, one for each event.

    Data that a row leaves out of `spawned`, `paused`, `resumed` and `terminated` gets a default; so do time, session
    and other fields, unless a third element has them. The log is stored and read back, so its events are real ones.
    """
    return events_of(agent, items_of(rows), registry)


def rows_of(raws: Sequence[RawEvent]) -> list[Row]:
    """The shortest rows that `expand_rows` turns into these raw events."""
    rows: list[Row] = []
    session: str | None = None
    for seq, raw in enumerate(raws, 1):
        kind, given = raw[0], cast("dict[str, Any]", raw[4])
        usual = _DEFAULTS.get(kind, {})
        data = {n: value for n, value in given.items() if n not in usual or not same_value(value, usual[n])}
        if set(usual) - set(given):  # an event of an older form: nothing may be filled in
            data = given
        expected = _fill_in(kind, data, seq, session)
        changes = {
            name: value
            for name, value, plain in zip(_FIELDS, raw, expected, strict=True)
            if not same_value(value, plain) and name != "type"
        }
        if "data" in changes:
            data = {}
        session = raw[5]
        rows.append((kind, data, changes) if changes else (kind, data))
    return rows


def format_rows(rows: Sequence[Row], name: str = "events") -> str:
    """Python code of the events; it needs `log_of` of this package and, where times are shown, `datetime`."""
    lines = [f"{name} = log_of("]
    for row in rows:
        lines.append(f"    ({', '.join([repr(row[0]), *map(format_value, row[1:])])}),")
    return "\n".join([*lines, ")"])


def format_value(value: Any) -> str:
    """Python code of plain data, with keys in their order."""
    if type(value) is dict:
        items = cast("dict[str, Any]", value).items()
        return "{" + ", ".join(f"{key!r}: {format_value(item)}" for key, item in items) + "}"
    if type(value) is list:
        return "[" + ", ".join(map(format_value, cast("list[Any]", value))) + "]"
    if type(value) is float and not math.isfinite(value):
        return f"float('{value}')"
    if type(value) is datetime:
        return f"datetime.fromisoformat('{value.isoformat()}')"
    return repr(value)


def spawn_row(state: AgentState) -> Row:
    """The row of a session that begins with the working memory of a state."""
    data = {
        "session_id": state.session_id,
        "agent_type": state.agent_type,
        "memory": state.memory,
        "parent": state.parent,
        "granularity": Granularity(state.granularity).name.lower(),
        "levels": {kind: Granularity(level).name.lower() for kind, level in state.levels.items()},
    }
    return SPAWNED, data


def _fill_in(kind: str, data: dict[str, Any], seq: int, session: str | None) -> RawEvent:
    filled = {**_DEFAULTS.get(kind, {}), **data}
    if kind == SPAWNED:
        session = filled["session_id"]
    level = _LEVELS.get(kind, int(Granularity.STATE if _is_state(kind) else Granularity.LIFECYCLE))
    return [kind, 1, level, _BEGIN + seq * _SECOND, filled, session, None, None, None, None]


def _is_state(kind: str) -> bool:
    return kind not in OWN_TYPES or kind.startswith(MEMORY_SET[:7]) or kind == "granularity_set"
