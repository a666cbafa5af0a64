"""The stages of `scripts/test`: what each one promises, and the commands that check it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tree import ROOMS

__all__ = ["CORES", "GROUPS", "PARTS", "QUICK", "Command", "Stage", "all_stages"]

#: Several stages under one name.
GROUPS = {
    "check": ("format", "lint", "mypy", "layers", "security"),
    "fast": ("format", "lint", "mypy", "layers", "security", "doctests", "tests"),
    "types": ("mypy", "pyright"),
}

TYPING = "scripts/typing"

CORES = os.cpu_count() or 1
QUICK = ("-m", "not slow", "--hypothesis-profile=quick")
# Three parts a core: quick tests wait for servers and threads as often as for a processor. Each part is a process that
# imports its own files only; workers of xdist import all of them, and pass on each result. Of more than eight parts
# some would be smaller than the largest file, and others empty.
_COUNT = min(3 * CORES, 8)
PARTS = tuple(f"--part={number + 1}/{_COUNT}" for number in range(_COUNT))
# Each page is a test of its own.
SPREAD_PAGES = ("-n", str(2 * CORES), "--dist=worksteal")
SPREAD_QUICK = ("-n", str(2 * CORES), "--dist=loadfile")


@dataclass(frozen=True)
class Command:
    """A command line, run from the project's root, and what it adds to the environment."""

    line: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One line of the closing table. It passes when all its commands exit with 0.

    Those of a stage that runs `beside` start before the first stage, all at once.
    """

    name: str
    promise: str
    commands: tuple[Command, ...]
    runs_pytest: bool = False
    beside: bool = False


def all_stages(
    root: Path, python: Path, *, quick: bool = False, pytest_arguments: tuple[str, ...] = ()
) -> dict[str, Stage]:
    """Every stage by name, in the order of a full run.

    `python` is the one the tools are installed for. `quick` leaves out the tests marked slow. The pytest
    arguments go to each stage that runs pytest.
    """

    def tool(*arguments: str) -> Command:
        # -P: otherwise `python -m` puts the root on sys.path, and `import events` works, but only here.
        return Command((str(python), "-P", "-m", *arguments))

    def script(name: str, *arguments: str) -> Command:
        return Command((str(python), f"scripts/{name}", *arguments))

    def pytest(name: str, promise: str, *arguments: str, parts: tuple[str, ...] = ()) -> Stage:
        # A test that takes this long hangs, but where it has a small part of a slow machine.
        line = ("pytest", f"--timeout={120 if quick else 300}", *arguments, *pytest_arguments)
        commands = tuple(tool(*line, part) for part in parts) or (tool(*line),)
        return Stage(name, promise, commands, runs_pytest=True, beside=bool(parts))

    elsewhere = ("--ignore=tests/docs", "--ignore=tests/test_doctests.py")
    # The slow ones wait most of the time: for leases, restarts, processes. A file stays with one worker, since its
    # fixtures may hold a server for all its tests. The files keep their order, which begins with the long ones.
    spread = ("-n", str(4 * CORES), "--dist=loadfile", "--no-loadscope-reorder")
    # What a developer picks may lie in one part alone.
    parts = PARTS if quick and not pytest_arguments else ()
    picked = (*QUICK, *(() if parts else SPREAD_QUICK)) if quick else (*spread, "--durations=10")
    # They end while the parts run, whose failures they would overwrite with those that they began with.
    apart = ("-o", "cache_dir=.pytest_cache/doctests")
    site = (script("docs", "--check"),)
    # Each of those that run beside uses one processor, and has ended before the tests begin.
    stages = (
        Stage("format", "files are as ruff writes them", (tool("ruff", "format", "--check"),)),
        Stage("lint", "ruff finds nothing", (tool("ruff", "check", "--output-format=concise"),)),
        Stage("mypy", "the rooms are strictly typed, the rest is sound", _mypy(root, tool), beside=not quick),
        Stage("pyright", "a second checker agrees", (tool("pyright", "--pythonpath", str(python)),), beside=True),
        Stage("layers", "imports go one way, and by the doors", (_layers(python), script("layout.py"))),
        Stage("security", "the rooms execute no data and silence no checker", (script("forbidden.py"),)),
        Stage("site", "the documentation can be built as a site, without a warning", site, beside=True),
        Stage("wheel", "what is published is complete and stands alone", (script("publication.py"),), beside=True),
        pytest("doctests", "the examples in docstrings are true", *apart, "tests/test_doctests.py"),
        pytest("tests", "what is promised holds", *elsewhere, *picked, parts=parts),
        Stage("pythons", "the quick tests pass on every other Python that is installed", (script("pythons.py"),)),
        Stage("redis8", "the logs on servers hold on Redis 8, too", (script("redis8.py"),)),
        pytest("docs", "what README and docs show works as shown", *SPREAD_PAGES, "tests/docs"),
    )
    return {stage.name: stage for stage in stages}


def _layers(python: Path) -> Command:
    # The links show the rooms to import-linter, not the installation: it then reads this tree and no other.
    line = (str(python.with_name("lint-imports")), "--no-cache", "--no-logo")
    return Command(line, {"PYTHONPATH": TYPING})


# Tests give calls what their types refuse, to see that it is refused.
WRONG_ON_PURPOSE = (
    "arg-type",
    "dict-item",
    "list-item",
    "func-returns-value",
    "type-var",
    "union-attr",
)


def _mypy(root: Path, tool: Callable[..., Command]) -> tuple[Command, ...]:
    strict = tool("mypy", *(word for room in ROOMS for word in ("-p", f"duramen.{room}")))
    folders = [name for name in ("tests", "scripts", "examples") if any((root / name).rglob("*.py"))]
    loose = tool(
        "mypy",
        "--config-file=",
        "--python-version=3.11",
        "--explicit-package-bases",
        "--check-untyped-defs",
        "--follow-imports=silent",
        *(f"--disable-error-code={code}" for code in WRONG_ON_PURPOSE),
        "--cache-dir=.mypy_cache/loose",
        "--exclude=^scripts/typing/",
        *folders,
    )
    return (strict, Command(loose.line, {"MYPYPATH": f"{TYPING}:scripts:tests"}))
