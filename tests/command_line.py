"""The `duramen` command for tests: in this process, where output is captured, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

__all__ = ["Duramen", "Ran", "command", "environment", "start"]


@frozen
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)


class Duramen(Protocol):
    """`duramen("agents", "--json")`, on the embedded store of the test unless the words name another."""

    def __call__(self, *words: str) -> Ran: ...


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "duramen.actors.console", *words]


def environment(**more: str) -> dict[str, str]:
    """Without what this process's user has set for the command."""
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS" and not name.startswith("DURAMEN_")}
    return {**kept, "PYTHONWARNINGS": "error", **more}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command in a process and a process group of its own."""
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
