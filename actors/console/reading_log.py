"""`duramen log`: what happened to an agent, a line an event."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict

from duramen.events import AgentPath, Event, Granularity
from duramen.events import vocabulary as v
from duramen.projections.timeline import headline

from ..system import AgentSystem
from .activity import COMPLETION, TOOL_CALL, TOOL_OUTPUT
from .as_json import to_json
from .exit_codes import ExitCode
from .opening import opened
from .options import Options
from .output import Output, joined, local_time, text
from .printable import shorten
from .shapes import as_dict, as_text

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["log"]

_PREVIEW: Final = 200
_STYLES: Final = {Granularity.LIFECYCLE: "bold cyan", Granularity.ACTIVITY: "dim", Granularity.TRACE: "dim"}


def log(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """The latest events up to a granularity, or from a seq on; oldest first."""
    path = AgentPath.parse(arguments.path).text
    level = Granularity[arguments.granularity.upper()]
    with opened(options) as system:
        for event in _chosen(system, path, level, arguments.start, arguments.limit):
            if output.as_json:
                output.data_line(_event_data(event))
            else:
                output.line(_event_line(event))
    return ExitCode.OK


def _chosen(
    system: AgentSystem, path: str, level: Granularity, start: int | None, limit: int | None
) -> Iterable[Event]:
    if start is not None or limit is None:
        events = (e for e in system.events(path, from_seq=start or 1) if e.granularity <= level)
        return islice(events, limit)
    return _latest(system, path, level, limit)


def _latest(system: AgentSystem, path: str, level: Granularity, limit: int) -> Iterator[Event]:
    """The last `limit` events up to the level, looked for from the end, so that a long log is not read as a whole."""
    head = system.log.head(path)
    if head is None:
        yield from system.events(path)  # raises what is to be said
        return
    window = limit
    while True:
        first = max(head.base, head.seq - window) + 1
        found = [event for event in system.events(path, from_seq=first, to_seq=head.seq) if event.granularity <= level]
        if len(found) >= limit or first == head.base + 1:
            yield from found[-limit:]
            return
        window *= 4


def _event_data(event: Event) -> dict[str, Any]:
    return {**asdict(event, recurse=False), "granularity": event.granularity.name.lower()}


def _event_line(event: Event) -> Text:
    told = _preview(event)
    style = _STYLES.get(event.granularity, "")
    return joined(
        text(f"{event.seq:>6}  {local_time(event.time)}  ", "dim"),
        text(headline(event), style),
        text(f": {told}" if told else "", "" if event.granularity <= Granularity.STATE else "dim"),
    )


def _preview(event: Event) -> str:
    """The beginning of what was written."""
    data = event.data
    found = ""
    if event.type == v.MEMORY_SET:
        found = _brief(data["value"])
    elif event.type == v.MEMORY_APPENDED:
        found = ", ".join(_brief(value) for value in data["values"][:3])
    elif event.type == v.MEMORY_MERGED:
        found = _brief(data["patch"])
    elif event.type == v.ACTIVITY_RECORDED:
        found = _activity(data["kind"], data["data"])
    elif event.type == v.EPISODE_RECORDED:
        found = str(data["episode"].get("task_description", ""))
    elif event.type not in v.OWN_TYPES:
        found = _brief(data)
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
    """A value in a line: a chat message as who says what, a text as it is, anything else as JSON."""
    if type(value) is str:
        return shorten(" ".join(value[: 2 * _PREVIEW].split()), _PREVIEW)
    message = as_dict(value) or {}
    if as_text(message.get("role")):
        said = message.get("content") or ("calls tools" if message.get("tool_calls") else "")
        return f"{message['role']}: {_brief(said)}"
    return shorten("" if value is None else to_json(value, for_people=True), _PREVIEW)
