"""Programs of the library's user, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import eventually

__all__ = ["Program", "running"]


class Program:
    """A program of the library's user in a process of its own, talked to in lines."""

    def __init__(self, text: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def expect(self, line: str) -> None:
        heard = self.hear()
        assert heard == line

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", what="stopped")

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def running(text: str, *arguments: str) -> Iterator[Program]:
    program = Program(text, *arguments)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.communicate()
