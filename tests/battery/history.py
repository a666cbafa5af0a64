"""What callers note of their operations: called, then acknowledged or failed, one line of JSON each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Any

from attrs import define, field, frozen

__all__ = ["History", "Operation", "read_histories"]

# Kinds of operations. Those in IDENTIFIED carry a command id, and are asked again with it where the outcome is unknown.
IDENTIFIED = ("append", "batch", "work")
KINDS = ("set", "append", "batch", "work", "lone_work", "get")


@define
class Operation:
    """One operation of one caller. Times are of `time.monotonic`, which all processes of a machine share."""

    name: str
    """Unique, and the value that it writes: `CALLER.NUMBER`."""
    kind: str
    agent: str
    called: float
    ended: float | None = None
    """None: its process was killed before there was an outcome."""
    error: str | None = None
    result: Any = None

    @property
    def caller(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def is_acknowledged(self) -> bool:
        return self.ended is not None and self.error is None


class History:
    """Writes one process's file. Thread-safe; a line that was written survives a kill of the process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def call(self, name: str, kind: str, agent: str) -> None:
        self._write(["call", name, kind, agent, monotonic()])

    def end(self, name: str, error: str | None, result: Any) -> None:
        self._write(["end", name, error, result, monotonic()])

    def note(self, what: str, said: str) -> None:
        """Something that is no operation: `problem`, with what it is; `buried`, with the id that the host had."""
        self._write([what, said])

    def _write(self, row: list[Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(row) + "\n")


@frozen
class Read:
    operations: list[Operation] = field(factory=list[Operation])
    problems: list[str] = field(factory=list[str])
    buried: list[str] = field(factory=list[str])
    """Processes that others have declared dead, and that noticed."""


def read_histories(paths: Iterable[Path]) -> Read:
    """All operations of all processes, in the order of their calls."""
    read = Read()
    for path in paths:
        found: dict[str, Operation] = {}
        for line in path.read_text().splitlines():
            match json.loads(line):
                case ["call", name, kind, agent, at]:
                    found[name] = Operation(name, kind, agent, at)
                case ["end", name, error, result, at]:
                    one = found[name]
                    one.ended, one.error, one.result = at, error, result
                case ["buried", _]:
                    read.buried.append(path.stem)
                case [what, said]:
                    read.problems.append(f"{path.stem}: {what}: {said}")
        read.operations.extend(found.values())
    read.operations.sort(key=lambda one: one.called)
    return read
