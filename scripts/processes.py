"""Commands that run beside others, from the project's root."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from environment import ROOT

__all__ = ["FAREWELL_SECONDS", "Running"]

# An interrupted pytest stops its servers before it goes.
FAREWELL_SECONDS = 30


class Running:
    """A command that was started. What it writes is printed by `wait`: commands must not write into each other.

    As a context it has ended when the context is left; if it does not end by itself, it is killed.
    """

    def __init__(self, line: Sequence[str | Path], environ: dict[str, str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open until `__exit__`
        self._process = subprocess.Popen(
            line, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )

    def wait(self, seconds: float) -> int:
        """Return its exit code. Raises TimeoutExpired if it has not ended after this many seconds."""
        try:
            return self._process.wait(seconds)
        finally:
            sys.stdout.flush()
            self._output.seek(0)
            shutil.copyfileobj(self._output, sys.stdout.buffer)
            sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._process.wait(FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._output.close()
