"""An event as text for people and as data for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import asdict

from duramen.events import Event, Granularity
from duramen.events.model import vocabulary as v
from duramen.projections.history import headline
from duramen.projections.state import OWN_EVENT_TYPES

from ..plain_data import as_dict, as_text
from .as_json import to_json
from .output import format_time, join_texts, text
from .printable import clean, shorten

if TYPE_CHECKING:
    from rich.text import Text

COMPLETION: Final = "completion"
TOOL_CALL: Final = "tool_call"
TOOL_OUTPUT: Final = "tool_output"
"""Kinds of activity that `duramen run` records and that have a text of their own."""

_PREVIEW: Final = 200
_STYLES: Final = {Granularity.LIFECYCLE: "bold cyan", Granularity.ACTIVITY: "dim", Granularity.TRACE: "dim"}


def event_data(event: Event) -> dict[str, Any]:
    """All fields of the event, for `to_json`."""
    return {**asdict(event, recurse=False), "digest": event.digest.hex()}


def event_line(event: Event, *, agent: bool = False) -> Text:
    """Seq, time, headline and the beginning of the data in one line; `agent` adds the path."""
    preview = _preview(event)
    style = _STYLES.get(event.granularity, "")
    when = format_time(event.time)
    return join_texts(
        text(f"{when}  {event.agent}@{event.seq}  " if agent else f"{event.seq:>6}  {when}  ", "dim"),
        text(headline(event), style),
        text(f": {preview}" if preview else "", "" if event.granularity <= Granularity.STATE else "dim"),
    )


def event_lines(event: Event) -> list[Text]:
    """The whole event: its headline, its facts, and its data as indented JSON."""
    facts = {
        "type": event.type,
        "session": event.session_id,
        "command": event.command_id,
        "cause": event.causation_id,
        "metadata": to_json(event.metadata, for_people=True) if event.metadata else None,
    }
    lines = [text(headline(event), "bold"), text("")]
    lines += [join_texts(text(f"{name:9}", "dim"), text(value)) for name, value in facts.items() if value is not None]
    data = clean(to_json(event.data, indent=2, for_people=True), lines=True)
    return [*lines, text(""), *(text(line) for line in data.split("\n"))]


def _preview(event: Event) -> str:
    data = event.data
    found = ""
    own = OWN_EVENT_TYPES.get(event.type)
    if own is None:
        found = _brief(data)
    elif own.is_edit and own.values is not None:
        values = data[own.values]
        found = ", ".join(map(_brief, values[:3])) if event.type == v.MEMORY_APPENDED else _brief(values)
    elif event.type == v.SPAWNED:
        found = _brief(data["memory"] or None)
    elif event.type == v.ACTIVITY_RECORDED:
        found = _activity(data["kind"], data["data"])
    elif event.type == v.EPISODE_RECORDED:
        found = str(data["episode"].get("task_description", ""))
    return shorten(found, _PREVIEW)


def _activity(kind: str, data: Any) -> str:
    known = as_dict(data)
    if known is None:
        return "" if data is None else _brief(data)
    if kind == TOOL_CALL and "tool" in known:
        return f"{known['tool']}({_brief(known.get('arguments'))})"
    if kind == TOOL_OUTPUT and "tool" in known:
        return f"{known['tool']} → {_brief(known.get('result'))}"
    if kind == COMPLETION and "content" in known:
        return _brief(known["content"])
    return _brief(known)


def _brief(value: Any) -> str:
    """A value in a line: a chat message as role and content, a text literally, anything else as JSON."""
    if type(value) is str:
        return shorten(" ".join(value[: 2 * _PREVIEW].split()), _PREVIEW)
    message = as_dict(value) or {}
    if as_text(message.get("role")):
        content = message.get("content") or ("calls tools" if message.get("tool_calls") else "")
        return f"{message['role']}: {_brief(content)}"
    return shorten("" if value is None else to_json(value, for_people=True), _PREVIEW)
