"""Check everything: set up what that needs, run the stages in order, exit with 0 only if all passed.

scripts/test                      every stage
scripts/test fast                 static checks and the quick tests, in under a minute
scripts/test check                static checks alone
scripts/test mypy layers          just these stages
scripts/test tests -- -k paths    what follows -- goes to pytest
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from environment import ROOT, clean_environ, ensure_browser, ensure_redis_server, ensure_venv
from processes import FAREWELL_SECONDS, Commands, Running
from stages import GROUPS, Stage, all_stages

__all__ = ["main"]

# All that the stages need together: those of `scripts/docs` too, so that it has nothing to install.
EXTRAS = (
    "adk",
    "agent-framework",
    "approximate",
    "console",
    "dev",
    "docs",
    "inspect",
    "langgraph",
    "llamaindex",
    "mcp",
    "openai-agents",
    "otel",
    "pydantic-ai",
    "search",
    "strands",
    "test",
    "verify",
)
# A stage that takes this long hangs: a whole run is meant to take less, but on a machine that others keep busy.
STAGE_SECONDS = 40 * 60


@dataclass
class Outcome:
    """How a stage ended. The counts are pytest's, and 0 for a stage that runs no tests."""

    stage: Stage
    ok: bool
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def verdict(self) -> str:
        return "passed" if self.ok else "FAILED"


def main() -> int:
    try:
        return check(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


def check(arguments: list[str]) -> int:
    own, pytest_arguments = split(arguments)
    asked = parse(own)
    python = ensure_venv(EXTRAS)
    stages = all_stages(ROOT, python, quick="fast" in asked, pytest_arguments=pytest_arguments)
    names = chosen(asked, stages, pytest_arguments)
    lacking = what_is_lacking(quick="fast" in asked) if "tests" in names else None
    started = time.monotonic()
    outcomes = run_all([stage for name, stage in stages.items() if name in names], lacking)
    return close(outcomes, lacking, time.monotonic() - started)


def what_is_lacking(*, quick: bool) -> str | None:
    """Install what the tests need besides; where that is not possible, sentences that say so."""
    needed = (ensure_redis_server(), None if quick else ensure_browser())
    return "\n".join(sentence for sentence in needed if sentence is not None) or None


def split(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Our own arguments, and those after `--`, which are pytest's."""
    if "--" not in arguments:
        return arguments, ()
    at = arguments.index("--")
    return arguments[:at], tuple(arguments[at + 1 :])


def parse(arguments: list[str]) -> list[str]:
    known = [*all_stages(ROOT, Path(sys.executable)), *GROUPS]
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        description=__doc__,
        epilog=f"stages and groups of stages: {', '.join(known)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage or a group of stages")
    asked: list[str] = parser.parse_args(arguments).stages
    unknown = [name for name in asked if name not in known]
    if unknown:
        parser.error(f"no stage is called {', '.join(unknown)}: there are {', '.join(known)}")
    return asked


def chosen(asked: list[str], stages: dict[str, Stage], pytest_arguments: tuple[str, ...]) -> set[str]:
    if not asked:
        return {"tests"} if pytest_arguments else set(stages)
    return {name for word in asked for name in GROUPS.get(word, (word,))}


def run_all(stages: list[Stage], lacking: str | None) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder, Commands() as begun:
        runs = [Run(stage, Path(folder)) for stage in stages]
        for run in runs:
            if run.stage.beside:
                run.begin(begun)
        return [run.outcome(lacking) for run in runs]


class Run:
    """One run of a stage. The reports of its pytests are written into a folder."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self._reports = [folder / f"{stage.name}-{number}.xml" for number in range(len(stage.commands))]
        self._running: list[Running] = []
        self._started = 0.0

    def begin(self, commands: Commands) -> None:
        """Start all commands, and return."""
        self._started = time.monotonic()
        for line, command in zip(self._lines(), self.stage.commands, strict=True):
            self._running.append(commands.start(line, clean_environ(**command.environ)))

    def outcome(self, lacking: str | None) -> Outcome:
        """Wait for the commands that were begun, or run one after the other."""
        print(f"\n=== {self.stage.name}: {self.stage.promise} ===", flush=True)
        if lacking and self.stage.name == "tests":
            print(lacking, flush=True)
        self._started = self._started or time.monotonic()
        until = self._started + STAGE_SECONDS
        if self._running:
            codes = [wait(running, line, until) for running, line in zip(self._running, self._lines(), strict=True)]
        else:
            pairs = zip(self._lines(), self.stage.commands, strict=True)
            codes = [call(line, command.environ, until) for line, command in pairs]
        ok = not any(codes)
        counted = [counts(report, not code) for report, code in zip(self._reports, codes, strict=True)]
        added = [sum(column) for column in zip(*counted, strict=True)] if self.stage.runs_pytest else []
        outcome = Outcome(self.stage, ok, time.monotonic() - self._started, *added)
        print(f"--- {self.stage.name} {outcome.verdict} after {outcome.seconds:.1f} s", flush=True)
        return outcome

    def _lines(self) -> list[tuple[str, ...]]:
        lines = [command.line for command in self.stage.commands]
        if not self.stage.runs_pytest:
            return lines
        return [(*line, f"--junitxml={report}") for line, report in zip(lines, self._reports, strict=True)]


def wait(running: Running, line: tuple[str, ...], until: float) -> int:
    try:
        return running.wait(until)
    except subprocess.TimeoutExpired:
        return say_stopped(line)


def call(line: tuple[str, ...], environ: dict[str, str], until: float) -> int:
    process = subprocess.Popen(line, cwd=ROOT, env=clean_environ(**environ), stdin=subprocess.DEVNULL)
    try:
        return process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return say_stopped(line)
    except KeyboardInterrupt:
        # The terminal has sent the same signal to the child.
        process.wait(FAREWELL_SECONDS)
        raise
    finally:
        process.kill()


def say_stopped(line: tuple[str, ...]) -> int:
    print(f"stopped, because the stage did not end within {STAGE_SECONDS} s: {' '.join(line)}", flush=True)
    return 1


def counts(report: Path, ok: bool) -> tuple[int, int, int]:
    """Passed, failed and skipped tests; a pytest that failed in another way counts as one that failed."""
    if not report.exists():
        return (0, 1, 0)
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return (max(0, total - failed - skipped), failed if ok or failed else 1, skipped)


def close(outcomes: list[Outcome], lacking: str | None, seconds: float) -> int:
    print("\n=== summary ===")
    for outcome in outcomes:
        print(f"{outcome.stage.name:<10} {outcome.verdict} {outcome.seconds:7.1f} s")
    print(f"{'together':<17} {seconds:7.1f} s")
    if lacking:
        print(f"\n{lacking}")
    if any(outcome.stage.runs_pytest for outcome in outcomes):
        passed = sum(outcome.passed for outcome in outcomes)
        failed = sum(outcome.failed for outcome in outcomes)
        skipped = sum(outcome.skipped for outcome in outcomes)
        print(f"\ntests: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if all(outcome.ok for outcome in outcomes) else 1
