"""Long texts and bytes of one agent, read part by part: of its memory, of an event, or stored beside the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from duramen.events import Content, InvalidMessage, PathNotFound
from duramen.events.log import load_content
from duramen.projections.recovery import AgentLog
from duramen.projections.state import lookup

from .log_index import LogIndex
from .windows import traced_at

_PART: Final = 64 * 1024


def long_value_at(
    agent_log: AgentLog, index: LogIndex, seq: int, segments: Sequence[str], first: int
) -> dict[str, Any]:
    """A part of a value that working memory had at a seq. Raises PathNotFound, InvalidMessage, CorruptEvent."""
    return _part(agent_log, lookup(traced_at(agent_log, index, seq).memory, segments), first)


def long_value_of(agent_log: AgentLog, seq: int, segments: Sequence[str], first: int) -> dict[str, Any]:
    """A part of a value in the data of an event. Raises as `long_value_at`."""
    found = next(agent_log.events(seq, seq), None) if seq > 0 else None
    if found is None:
        raise PathNotFound(f"{agent_log.agent} has no event {seq}", agent=agent_log.agent, seq=seq)
    return _part(agent_log, lookup(dict(found.data), segments), first)


def _part(agent_log: AgentLog, value: object, first: int) -> dict[str, Any]:
    """The part from `first` on, bytes as digits of base 16; `next` is where the one after it begins."""
    if isinstance(value, Content):
        value = load_content(agent_log.log.contents, agent_log.agent, value)
    if type(value) is str:
        part, after = value[first : first + _PART], first + _PART
    elif type(value) is bytes:
        part, after = value[first : first + _PART // 2].hex(" "), first + _PART // 2
    else:
        raise InvalidMessage("texts and bytes are read part by part, other values whole", actual=type(value).__name__)
    return {"first": first, "next": min(after, len(value)), "length": len(value), "part": part}
