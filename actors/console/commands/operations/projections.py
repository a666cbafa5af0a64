"""`duramen projections`: the durable consumers, their progress, and repairs by hand."""

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

from ....api import AgentSystem
from ...arguments import Options, parse_seconds
from ...command import Command
from ...errors import NoProgress
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Output, Table, format_time, show_progress, text

_STYLES: Final = {"live": "green", "parked": "red", "catching_up": "yellow", "rebuilding": "yellow"}
_HIDDEN: Final = "~"
"""Names that begin so belong to the library."""
_POLL: Final = 0.2
"""Seconds between two looks at a consumer that is waited for."""
_TIMEOUT: Final = 30.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=["list", *_ACTIONS],
        metavar="ACTION",
        help=f"list (default), {', '.join(_ACTIONS)}: wait until it is up to date, build its view anew, try again "
        "or leave out the event it is parked at, forget it",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the consumer")
    parser.add_argument(
        "--timeout",
        type=parse_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help=f"give up waiting when nothing has moved for so long (default: {_TIMEOUT:g})",
    )


def _run(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
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
        done = _ACTIONS[action](system, name, arguments, output)
    if output.as_json:
        output.data({"name": name, "action": action, **done})
    else:
        output.line(text(f"{name}: {done['message']}"))
    return ExitCode.OK


# -- the list ---------------------------------------------------------------------------------------------------------


def _list(system: AgentSystem, output: Output) -> None:
    found = [info for info in system.projections() if not info.name.startswith(_HIDDEN)]
    if output.as_json:
        output.data([_data(info) for info in found])
        return
    if not found:
        output.show(text("no projection was attached here yet: `system.attach(projection, name)` does it"))
        return
    numbers = ("version", "lag", "events")
    table = Table("name", "status", *numbers, "stored", "error", texts=["error"], right=numbers)
    for info in found:
        _add(table, info.name, info)
        if info.building is not None:
            _add(table, "└─ being built", info.building)
    output.show(table)


def _add(table: Table, name: str, info: ConsumerInfo) -> None:
    table.add_row(
        text(name),
        text(info.status, _STYLES.get(info.status, "")),
        text(info.version),
        text(f"{info.lag:,}"),
        text(f"{info.applied:,}"),
        text(format_time(info.updated_at)),
        text("" if info.error is None else _why(info.error), "red"),
    )


def _why(error: Failure) -> str:
    where = "" if error.agent is None else f" at {error.agent}@{error.seq}"
    return f"{error.error}{where}: {error.advice}"


def _data(info: ConsumerInfo) -> dict[str, Any]:
    error, building = info.error, info.building
    return {
        **asdict(info, recurse=False),
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
    """Wait until the stored view has all that is in the log now, and the consumer has done what was requested of it."""
    end: int | None = None
    moved_at, seen = monotonic(), -1
    never = Event()
    with show_progress("append", bar=not output.as_json) as advance:
        while True:
            # In this order: a consumer that is read after a request was done shows the result of it.
            requested, info = _has_request(system, name), system.consumers.get(name)
            end = info.position + info.lag if end is None else end
            shown = info.building or info
            if not requested and shown.error is not None:
                raise ConsumerParked(f"consumer {name} is parked: {_why(shown.error)}")
            if not requested and info.building is None and info.position >= end:
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
            never.wait(_POLL)


def _has_request(system: AgentSystem, name: str) -> bool:
    """Whether the consumer has still to do something that was requested by hand."""
    return system.log.consumer_store().find(name).request is not None


Action = Callable[[AgentSystem, str, argparse.Namespace, Output], dict[str, Any]]
_ACTIONS: Final[dict[str, Action]] = {
    "wait": _wait,
    "rebuild": _rebuild,
    "retry": _retry,
    "skip": _skip,
    "remove": _remove,
}

PROJECTIONS: Final = Command(
    "projections", "list the durable consumers of the log, and repair one", _run, _add_arguments
)
