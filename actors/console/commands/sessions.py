"""The commands that carry an agent's log to a file, and from one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from duramen.events import AgentPath, DuramenError
from duramen.projections import Session

from ...api import AgentSystem
from ..arguments import Options
from ..errors import UnusableFile
from ..exit_codes import ExitCode
from ..opening import opened
from ..output import Output, clean, counting, text

__all__ = ["export", "import_"]

_STANDARD: Final = "-"


def export(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Write an agent, or a tree of them, to a file; or its events as JSON Lines."""
    path = AgentPath.parse(arguments.path).text
    with opened(options) as system, _usable(arguments.file):
        told = _exported(system, path, arguments)
    if arguments.file == _STANDARD:
        return ExitCode.OK
    if output.as_json:
        output.data({**told, "file": arguments.file})
    else:
        output.line(text(f"{path}: {told['events']} events written to {arguments.file}"))
    return ExitCode.OK


def _exported(system: AgentSystem, path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    file: Path | BinaryIO = sys.stdout.buffer if arguments.file == _STANDARD else _named(arguments.file)
    if arguments.jsonl:
        return {"agent": path, "events": system.export_jsonl(path, file, tree=arguments.tree)}
    return _data(system.export_session(path, file, tree=arguments.tree))


def import_(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Take in what `export` has written."""
    to = None if arguments.to is None else AgentPath.parse(arguments.to).text
    with (
        _usable(arguments.file),
        _source(arguments.file) as source,  # before a store is made for it
        opened(options, create=True) as system,
        counting("events", bar=not output.as_json) as advance,
    ):
        session = system.import_session(source, to, progress=lambda events: advance(events, None))
    if output.as_json:
        output.data(_data(session))
        return ExitCode.OK
    for carried in session.agents:
        ends = f"seq {carried.seq}, digest {carried.digest.hex()}"
        output.line(text(f"{carried.agent}: {carried.seq - carried.base} events taken in ({ends})"))
    return ExitCode.OK


@contextmanager
def _source(name: str) -> Generator[BinaryIO]:
    if name == _STANDARD:
        yield sys.stdin.buffer
    else:
        with _named(name).open("rb") as file:
            yield file


def _named(name: str) -> Path:
    path = Path(name)
    if not path.name:
        raise IsADirectoryError(21, "is a directory")
    return path


@contextmanager
def _usable(name: str) -> Generator[None]:
    """Tell in a line what the file system says of the file."""
    try:
        yield
    except (BrokenPipeError, DuramenError):  # of which some are an OSError, too
        raise
    except OSError as error:
        raise UnusableFile(f"{clean(name)}: {error.strerror or type(error).__name__}") from None


def _data(session: Session) -> dict[str, Any]:
    return {
        "agent": session.agent,
        "events": session.events,
        "agents": [
            {"agent": carried.agent, "seq": carried.seq, "base": carried.base, "digest": carried.digest.hex()}
            for carried in session.agents
        ],
    }
