"""Checks of arguments of public calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from io import TextIOBase
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from uuid import UUID

from duramen.events import AgentPath, InvalidMessage, InvalidPath, agent_path
from duramen.events.model import parse_seconds
from duramen.projections.recovery import Point
from duramen.projections.sessions import open_atomically

from ..agent import Agent
from ..commands import plain_id
from ..handlers import AgentFactory


def check_types(**arguments: tuple[object, type[Any]]) -> None:
    """Raise InvalidMessage for an argument that is neither None nor of its type."""
    for name, (value, expected) in arguments.items():
        if value is not None and not isinstance(value, expected):
            raise InvalidMessage(f"{name} takes a {expected.__name__}", actual=type(value).__name__)


def parse_agent(
    path: str | AgentPath | None, project_id: str | UUID | None, agent_instance_id: str | UUID | None
) -> str:
    """Return the path of an agent that is named in one of two ways. Raises InvalidPath, also for both ways at once."""
    if path is None:
        return AgentPath.of(project_id or "", agent_instance_id or "").text
    if project_id is not None or agent_instance_id is not None:
        raise InvalidPath("name the agent by its path, or by project_id and agent_instance_id, not by both")
    return agent_path(path).text


def parse_agent_types(agents: object) -> dict[str, AgentFactory]:
    """Return the factories by agent type, as text. Raises InvalidMessage."""
    if agents is None:
        return {}
    if not isinstance(agents, Mapping):
        raise InvalidMessage("agents maps agent types to Agent subclasses or functions", actual=type(agents).__name__)
    found: dict[str, AgentFactory] = {}
    for name, factory in cast("Mapping[object, object]", agents).items():
        text = plain_id(name, "an agent type")
        if text is None or not callable(factory) or Agent not in getattr(factory, "__mro__", (Agent,)):
            raise InvalidMessage(f"agent type {text!r} takes an Agent subclass, or a function that returns an agent")
        found[text] = cast("AgentFactory", factory)
    return found


def parse_moment(agent: str, seq: object, time: object, checkpoint: object) -> Point | None:
    """Return the moment that one of the arguments names, or None. Raises InvalidMessage for two.

    `seq` also accepts a time or a checkpoint id.
    """
    given = [point for point in (seq, time, checkpoint) if point is not None]
    if len(given) > 1:
        raise InvalidMessage("name the moment by one of seq, time and checkpoint", agent=agent)
    if time is not None and not isinstance(time, datetime):
        raise InvalidMessage("time takes an aware datetime", agent=agent, actual=type(time).__name__)
    if checkpoint is not None and not isinstance(checkpoint, str):
        raise InvalidMessage("checkpoint takes the id of one (str)", agent=agent, actual=type(checkpoint).__name__)
    for point in given:
        if type(point) is int or isinstance(point, datetime | str):
            return point
        raise InvalidMessage("seq takes a whole number", agent=agent, actual=type(point).__name__)
    return None


def parse_room(room: object) -> float:
    """Return for how many seconds to wait for room in a mailbox. Raises InvalidMessage."""
    return 0.0 if room == 0.0 and type(room) is float else parse_seconds("room", room)


def check_count(name: str, value: object, most: int | None = None) -> None:
    """Raise InvalidMessage unless `value` is a whole number from 1 to `most`."""
    if type(value) is not int or value < 1 or (most is not None and value > most):
        bound = "on" if most is None else f"to {most}"
        raise InvalidMessage(f"{name} takes a whole number, from 1 {bound}", actual=value)


def check_callable(name: str, value: object) -> None:
    """Raise InvalidMessage unless `value` is callable or None."""
    if value is not None and not callable(value):
        raise InvalidMessage(f"{name} takes a function", actual=type(value).__name__)


def open_for_writing(file: str | os.PathLike[str] | BinaryIO) -> AbstractContextManager[IO[bytes]]:
    """Open a file for writing. Raises InvalidMessage if it is neither a file's path nor a file, and OSError."""
    if isinstance(file, str | os.PathLike):
        return open_atomically(_path(file))
    _check_open(file, "write")
    return nullcontext(file)


def open_for_reading(file: str | os.PathLike[str] | BinaryIO) -> AbstractContextManager[IO[bytes]]:
    """Open a file for reading. Raises InvalidMessage if it is neither a file's path nor a file, and OSError."""
    if isinstance(file, str | os.PathLike):
        return _path(file).open("rb")
    _check_open(file, "read")
    return nullcontext(file)


def _path(file: str | os.PathLike[str]) -> Path:
    text = os.fsdecode(file)
    found = Path(text)
    if "\0" in text or not found.name:
        raise InvalidMessage("this is not the path of a file")
    if text.endswith(os.sep) or found.is_dir():
        raise InvalidMessage(f"{text!r} is a folder; name a file in it", actual=text)
    return found


def _check_open(file: object, call: str) -> None:
    if isinstance(file, TextIOBase) or not callable(getattr(file, call, None)):
        raise InvalidMessage(
            f"a file is a path, or something open for bytes that one can {call}", actual=type(file).__name__
        )
