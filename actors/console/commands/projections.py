"""`duramen projections`: the durable consumers, how far they have come, and repairs by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import Any, Final

from attrs import asdict

from duramen.events import ConsumerParked, InvalidMessage
from duramen.events.codec import to_datetime
from duramen.events.log import Failure
from duramen.projections import ConsumerInfo

from ...api import AgentSystem
from ..arguments import Options
from ..errors import NoProgress
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, columns, counting, local_time, text

__all__ = ["ACTIONS", "projections"]

_STYLES: Final = {"live": "green", "parked": "red", "catching_up": "yellow", "rebuilding": "yellow"}
_HIDDEN: Final = "~"
"""Names that begin so are the library's own."""
_LOOK: Final = 0.2


def projections(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """List them, or do something with one."""
    action: str | None = arguments.action
    name: str | None = arguments.name
    if action is None or action == "list":
        if name is not None:
            raise InvalidMessage("`projections list` takes no name")
        with opened(options) as system:
            _list(system, output)
        return ExitCode.OK
    if name is None:
        raise InvalidMessage(f"`projections {action}` takes the name of a consumer; `duramen projections` lists them")
    with opened(options) as system:
        told = ACTIONS[action](system, name, arguments, output)
    if output.as_json:
        output.data({"name": name, "action": action, **told})
    else:
        output.line(text(f"{name}: {told['message']}"))
    return ExitCode.OK


# -- what there is -----------------------------------------------------------------------------------------------------


def _list(system: AgentSystem, output: Output) -> None:
    found = [info for info in system.projections() if not info.name.startswith(_HIDDEN)]
    if output.as_json:
        output.data([_data(info) for info in found])
        return
    if not found:
        output.show(text("no projection was attached here yet: `system.attach(projection, name)` does it"))
        return
    table = columns("name", "status", "version", "lag", "events", "stored", "error")
    for column in table.columns[2:5]:
        column.justify = "right"
    for info in found:
        _add(table, info.name, info)
        if info.building is not None:
            _add(table, "└─ being built", info.building)
    output.show(table)


def _add(table: Any, name: str, info: ConsumerInfo) -> None:
    table.add_row(
        text(name),
        text(info.status, _STYLES.get(info.status, "")),
        text(info.version),
        text(f"{info.lag:,}"),
        text(f"{info.applied:,}"),
        text(local_time(info.updated_at)),
        text("" if info.error is None else _why(info.error), "red"),
    )


def _why(error: Failure) -> str:
    where = "" if error.agent is None else f" at {error.agent}@{error.seq}"
    return f"{error.error}{where}: {error.advice}"


def _data(info: ConsumerInfo) -> dict[str, Any]:
    told = asdict(info, recurse=False)
    error, building = info.error, info.building
    return {
        **told,
        "error": None if error is None else {**asdict(error), "at": to_datetime(error.at)},
        "building": None if building is None else _data(building),
    }


# -- by hand -----------------------------------------------------------------------------------------------------------


def _rebuild(system: AgentSystem, name: str, arguments: argparse.Namespace, output: Output) -> dict[str, Any]:
    system.consumers.rebuild(name)
    return {"message": "whoever runs it will build its view anew; `projections wait` shows how far that is"}


def _retry(system: AgentSystem, name: str, arguments: argparse.Namespace, output: Output) -> dict[str, Any]:
    system.consumers.retry(name)
    return {"message": "whoever runs it will try again"}


def _skip(system: AgentSystem, name: str, arguments: argparse.Namespace, output: Output) -> dict[str, Any]:
    agent, seq = system.consumers.skip(name)
    return {"message": f"whoever runs it will leave out {agent}@{seq}, for good", "agent": agent, "seq": seq}


def _remove(system: AgentSystem, name: str, arguments: argparse.Namespace, output: Output) -> dict[str, Any]:
    system.consumers.remove(name)
    return {"message": "forgotten, with its view"}


def _wait(system: AgentSystem, name: str, arguments: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Until what is in the log now is in the stored view, and orders by hand were obeyed."""
    end: int | None = None
    moved_at, seen = monotonic(), -1
    never = Event()
    with counting("appends", bar=not output.as_json) as advance:
        while True:
            # In this order: what is read after an order was obeyed shows what came of it.
            told, info = _is_told(system, name), system.consumers.get(name)
            end = info.position + info.lag if end is None else end
            shown = info.building or info
            if not told and shown.error is not None:
                raise ConsumerParked(f"consumer {name} is parked: {_why(shown.error)}")
            if not told and info.building is None and info.position >= end:
                return {
                    "message": f"{info.status}, with all that was in the log",
                    "status": info.status,
                    "lag": info.lag,
                }
            if shown.position != seen:
                moved_at, seen = monotonic(), shown.position
            elif monotonic() - moved_at > arguments.timeout:
                raise NoProgress(f"consumer {name} has not moved for {arguments.timeout:g} s: does a process run it?")
            advance(shown.position, max(end, shown.position), shown.status)
            never.wait(_LOOK)


def _is_told(system: AgentSystem, name: str) -> bool:
    """Whether it was asked by hand for something that it has not done yet."""
    return system.log.consumer_store().look(name).wish is not None


Action = Callable[[AgentSystem, str, argparse.Namespace, Output], dict[str, Any]]
ACTIONS: Final[dict[str, Action]] = {
    "wait": _wait,
    "rebuild": _rebuild,
    "retry": _retry,
    "skip": _skip,
    "remove": _remove,
}
