"""`duramen export` and `duramen import`: agents' logs to a file, and from one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from duramen.events import AgentPath, DuramenError
from duramen.events.model import count_of
from duramen.projections import Session

from ....api import AgentSystem
from ...arguments import Options, add_path
from ...command import Command
from ...errors import UnusableFile
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Advance, Output, clean, show_progress, text

_STANDARD: Final = "-"


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("file", metavar="FILE", help="where to write, - for stdout; a file that is there is replaced")
    parser.add_argument("--tree", action="store_true", help="with all agents below it")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--jsonl", action="store_true", help="the events as JSON Lines for other tools; `import` does not read this"
    )
    form.add_argument(
        "--html",
        action="store_true",
        help="one page for the browser that needs no server; `import` does not read this",
    )


def _export(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    path = AgentPath.parse(arguments.path).text
    with (
        opened(options) as system,
        _file_errors(arguments.file),
        show_progress("event", bar=not output.as_json) as advance,
    ):
        written = _write(system, path, arguments, advance)
    if arguments.file == _STANDARD:
        return ExitCode.OK
    if output.as_json:
        output.data({**written, "file": arguments.file})
    else:
        output.line(text(f"{path}: {count_of(written['events'], 'event')} written to {arguments.file}"))
    return ExitCode.OK


def _write(system: AgentSystem, path: str, arguments: argparse.Namespace, advance: Advance) -> dict[str, Any]:
    if arguments.html:
        return _write_page(system, path, arguments, advance)

    def written(events: int) -> None:
        advance(events, None)

    file: Path | BinaryIO = sys.stdout.buffer if arguments.file == _STANDARD else _file_path(arguments.file)
    if arguments.jsonl:
        return {"agent": path, "events": system.export_jsonl(path, file, tree=arguments.tree, progress=written)}
    return _data(system.export_session(path, file, tree=arguments.tree, progress=written))


def _write_page(system: AgentSystem, path: str, arguments: argparse.Namespace, advance: Advance) -> dict[str, Any]:
    from ....inspector import write_static_page

    file = sys.stdout.buffer if arguments.file == _STANDARD else _file_path(arguments.file)
    events = write_static_page(system, path, file, tree=arguments.tree, progress=lambda events: advance(events, None))
    return {"agent": path, "events": events}


def _add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what `export` has written, - for stdin")
    parser.add_argument("--to", metavar="PATH", help="as this agent (default: as the one it was)")


def _import(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    to = None if arguments.to is None else AgentPath.parse(arguments.to).text
    with (
        _file_errors(arguments.file),
        _source(arguments.file) as source,  # before a store is made for it
        opened(options, create=True) as system,
        show_progress("event", bar=not output.as_json) as advance,
    ):
        session = system.import_session(source, to, progress=lambda events: advance(events, None))
    if output.as_json:
        output.data(_data(session))
        return ExitCode.OK
    for agent in session.agents:
        ends = f"seq {agent.seq}, digest {agent.digest.hex()}"
        output.line(text(f"{agent.agent}: {count_of(agent.seq - agent.base, 'event')} taken in ({ends})"))
    return ExitCode.OK


@contextmanager
def _source(name: str) -> Generator[BinaryIO]:
    if name == _STANDARD:
        yield sys.stdin.buffer
    else:
        with _file_path(name).open("rb") as file:
            yield file


def _file_path(name: str) -> Path:
    path = Path(name)
    if not path.name:
        raise IsADirectoryError(21, "is a directory")
    return path


@contextmanager
def _file_errors(name: str) -> Generator[None]:
    """Turn an error of the file system into an UnusableFile that names the file."""
    try:
        yield
    except (BrokenPipeError, DuramenError):  # some DuramenErrors are an OSError, too
        raise
    except OSError as error:
        raise UnusableFile(f"{clean(name)}: {error.strerror or type(error).__name__}") from None


def _data(session: Session) -> dict[str, Any]:
    return {
        "agent": session.agent,
        "events": session.events,
        "agents": [
            {"agent": agent.agent, "seq": agent.seq, "base": agent.base, "digest": agent.digest.hex()}
            for agent in session.agents
        ],
    }


EXPORT: Final = Command("export", "write an agent, or a tree of them, to a file", _export, _add_export_arguments)
IMPORT: Final = Command("import", "take in what `export` has written", _import, _add_import_arguments)
