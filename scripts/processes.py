"""Commands that run beside others, from the project's root."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Self

from environment import ROOT

__all__ = ["FAREWELL_SECONDS", "Commands", "Running"]

# An interrupted pytest stops its servers before it goes.
FAREWELL_SECONDS = 30


class Running:
    """A command that was started. What it writes is printed by `wait`: commands must not write into each other."""

    def __init__(self, line: Sequence[str | Path], environ: dict[str, str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open until `close`
        self._process = subprocess.Popen(
            line, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )

    def wait(self, until: float) -> int:
        """Return its exit code. Raises TimeoutExpired where it has to be killed at `until`, of `time.monotonic`."""
        try:
            return self._process.wait(max(0.0, until - monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            sys.stdout.flush()
            self._output.seek(0)
            shutil.copyfileobj(self._output, sys.stdout.buffer)
            sys.stdout.flush()

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does; without effect once it has ended."""
        self._process.send_signal(signal.SIGINT)

    def wait_quietly(self, until: float) -> None:
        """Wait for its end, but not longer than `until`; print nothing."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - monotonic()))

    def kill(self) -> None:
        """Kill it, without effect once it has ended."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, and forget what it wrote."""
        with self._output:
            self.kill()


class Commands:
    """Commands that run beside each other, in a context. None of them runs any more when that has been left."""

    def __init__(self) -> None:
        self._running: list[Running] = []

    def start(self, line: Sequence[str | Path], environ: dict[str, str]) -> Running:
        running = Running(line, environ)
        self._running.append(running)
        return running

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # A terminal has sent its Ctrl-C to the commands, too: a second one would keep them from stopping their servers.
        if kind is not KeyboardInterrupt:
            for running in self._running:
                running.interrupt()
        until = monotonic() + FAREWELL_SECONDS
        try:
            for running in self._running:
                running.wait_quietly(until)
        finally:
            for running in self._running:
                running.close()
