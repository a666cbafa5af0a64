"""`duramen verify --replay`: whether today's code folds recorded logs to what they were folded to when recorded."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from duramen.events import AgentPath, CorruptEvent, Trimmed
from duramen.events.model import count_of
from duramen.projections.recorded import (
    Difference,
    RecordedLog,
    as_test,
    check_replay,
    load_log,
    recorded_in,
    smaller,
    sound_logs,
)

from ....api import AgentSystem
from ...arguments import Options
from ...errors import UnusableFile
from ...exit_codes import ExitCode
from ...opening import opened
from ...output import Advance, Output, clean, show_progress, text

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9]+")

Load = Callable[[], RecordedLog]


@define
class _Verdict:
    events: int = 0
    agents: int = 0
    differences: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    skipped: list[dict[str, str]] = field(factory=list[dict[str, str]])


def verify_replay(arguments: argparse.Namespace, options: Options, output: Output) -> ExitCode:
    """Fold files of recorded logs and agents' logs, and write a test file for each difference, with exit code 4."""
    for name in arguments.imports or ():
        _import(name)
    files = [path for path in arguments.paths if Path(path).is_file()]
    agents = [AgentPath.parse(path).text for path in arguments.paths if path not in files]
    verdict, tests = _Verdict(), Path(arguments.tests)
    with (
        nullcontext() if files and not agents else opened(options) as system,
        show_progress("event", bar=not output.as_json) as advance,
    ):
        if system is not None and not arguments.paths:
            agents = sorted(entry.agent for entry in system.agents())
        sound = sound_logs(
            None if system is None else system.log,
            agents,
            files,
            workers=arguments.workers,
            modules=arguments.imports or (),
            progress=lambda events, name: advance(events, None, name),
        )
        verdict.events, verdict.agents = sum(sound.values()), len(sound)
        for name, load in _logs(system, files, agents):
            if name not in sound:
                _check(name, load, verdict, tests, advance)
    if output.as_json:
        output.data(
            {
                "ok": not verdict.differences,
                "events": verdict.events,
                "agents": verdict.agents,
                "differences": verdict.differences,
                "skipped": verdict.skipped,
            }
        )
    else:
        _show(verdict, output)
    return ExitCode.CORRUPT if verdict.differences else ExitCode.OK


def _import(name: str) -> None:
    """Import a module of the user, also from the working directory, so that its event types and upcasters are known."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        importlib.import_module(name)
    except Exception as error:  # a module of the user can raise anything
        raise UnusableFile(f"{clean(name)} cannot be imported: {type(error).__name__}: {error}") from error


def _logs(system: AgentSystem | None, files: list[str], agents: list[str]) -> Iterator[tuple[str, Load]]:
    for file in files:
        yield file, partial(load_log, file)
    if system is not None:
        for path in agents:
            yield path, partial(recorded_in, system.log, path)


def _check(name: str, load: Load, verdict: _Verdict, tests: Path, advance: Advance) -> None:
    try:
        log = load()
    except Trimmed as error:
        verdict.skipped.append({"log": name, "why": str(error)})
        return
    except CorruptEvent as error:
        verdict.differences.append({"log": name, "agent": error.agent, "kind": "error", "seq": error.seq, "what": []})
        return
    except OSError as error:
        raise UnusableFile(f"{clean(name)}: {error.strerror or type(error).__name__}") from None
    report = check_replay(log, progress=lambda events: advance(verdict.events + events, None, name))
    verdict.events += report.events
    verdict.agents += 1
    advance(verdict.events, None, name)
    for found in report.differences:
        verdict.differences.append(_report(name, log, found, tests))


def _report(name: str, log: RecordedLog, found: Difference, tests: Path) -> dict[str, Any]:
    """Describe a difference without its values, and write a test that shows it in as few events as possible."""
    report: dict[str, Any] = {"log": name, "agent": log.agent, "kind": found.kind, "seq": found.seq}
    report["what"] = [found.name] if found.name else list(found.names)
    if found.log is None:
        return report
    shortest = smaller(found)
    file = tests / f"test_replay_{_NOT_IN_NAMES.sub('_', log.agent)}_{found.seq}.py"
    try:
        file.write_text(as_test(shortest), encoding="utf-8")
    except OSError as error:
        raise UnusableFile(f"{clean(str(file))}: {error.strerror or type(error).__name__}") from None
    return {**report, "test": str(file), "test_events": shortest.seq}


def _show(verdict: _Verdict, output: Output) -> None:
    for skipped in verdict.skipped:
        output.line(text(f"{skipped['log']}: skipped: {skipped['why']}", "yellow"))
    for found in verdict.differences:
        what = f" ({', '.join(found['what'])})" if found["what"] else ""
        test = f"; {found['test']} shows it in {count_of(found['test_events'], 'event')}" if "test" in found else ""
        output.line(text(f"{found['log']}: {found['kind']} differs at {found['seq']}{what}{test}", "red"))
    if not verdict.differences:
        events, logs = count_of(verdict.events, "event"), count_of(verdict.agents, "log")
        output.line(text(f"ok: {events} of {logs} {'folds' if verdict.events == 1 else 'fold'} as recorded", "green"))
