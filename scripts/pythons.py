"""Run the quick tests on every Python from 3.11 that is installed, each in a virtual environment of its own.

The Python of `.venv` is left out: the stage `tests` runs on it. Those found are on PATH or were installed by pyenv.
Where there is no other one, that is said, and no failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from environment import NEWEST, OLDEST, ROOT, clean_environ
from processes import Commands
from stages import PARTS, QUICK

__all__ = ["other_pythons"]

#: Tests of adapters whose frameworks take long to install; they run on the Python of `.venv` alone.
HEAVY = ("adk", "agent_framework", "llamaindex", "pydantic_ai", "strands")
#: Rewriting the assertions of all tests takes each worker longer than what it saves; a failure is looked into by hand.
PLAIN = ("--assert=plain", "-p", "no:cacheprovider")
# A part that takes this long hangs: all of them are begun at once.
PART_SECONDS = 10 * 60
EXTRAS = "approximate,console,inspect,langgraph,mcp,search,test,verify"


def main() -> int:
    found = other_pythons(sys.version_info[1])
    if not found:
        print(f"no Python from 3.{OLDEST[1]} on is installed besides {sys.version.split()[0]}")
    codes = [check(minor, program) for minor, program in found.items()]
    return 1 if any(codes) else 0


def other_pythons(own: int) -> dict[int, Path]:
    """A Python that starts for each minor version of Python 3 that is supported, but not for `own`."""
    return {
        minor: program
        for minor in range(OLDEST[1], NEWEST[1] + 1)
        if minor != own
        for program in list(working(minor))[:1]
    }


def working(minor: int) -> Iterator[Path]:
    name = f"python3.{minor}"
    on_path = shutil.which(name)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for program in [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}"))]:
        # pyenv puts a program of this name on PATH for each version it has, which may refuse to be one.
        probe = subprocess.run([program, "-c", "import venv, ensurepip"], check=False, capture_output=True)
        if probe.returncode == 0:
            yield program


def check(minor: int, program: Path) -> int:
    """Install the project for one Python and run the quick tests; the exit code."""
    python = ROOT / ".venv" / f"python3.{minor}" / "bin" / "python"
    if not python.exists():
        call(program, "-m", "venv", "--clear", python.parents[1])
    pip = (python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "--no-compile")
    code = call(*pip, "--editable", f".[{EXTRAS}]")
    if code:
        return code
    print(f"--- on Python 3.{minor}", flush=True)
    tests = ("--timeout=120", "--ignore=tests/docs", "--ignore=tests/test_doctests.py", "--ignore=tests/test_stages.py")
    left_out = (f"--ignore=tests/actors/adapters/{name}" for name in HEAVY)
    line = (python, "-P", "-m", "pytest", "-q", *QUICK, *tests, *left_out, *PLAIN)
    until = monotonic() + PART_SECONDS
    with Commands() as commands:
        parts = [commands.start((*line, part), environ()) for part in PARTS]
        codes = [part.wait(until) for part in parts]
    return 1 if any(codes) else 0


def call(*line: str | Path) -> int:
    return subprocess.run(line, cwd=ROOT, env=environ(), stdin=subprocess.DEVNULL, check=False).returncode


def environ() -> dict[str, str]:
    return {**clean_environ(), "DURAMEN_TEST_WITHOUT": " ".join(HEAVY)}


if __name__ == "__main__":
    sys.exit(main())
