"""The law that another process, where strings have other hashes, replays to the same state."""

from __future__ import annotations

import inspect
import os
import select
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from types import ModuleType
from typing import Any, BinaryIO, ClassVar, Final, cast

from duramen.events.model import DECLARED

from ...recorded import StoredLog
from ...recorded.workers import receive, send
from ..subject import Subject
from .law import Law, NotChecked, folded

__all__ = ["SameInAnotherProcess"]

_SECONDS: Final = 60.0
"""The time-out of an answer; the first answer includes all imports."""

# This process's module path comes after the worker's own: a folder of scripts may have a `types.py`.
_WORKER: Final = """
import sys
sys.path += [entry for entry in sys.argv[1:] if entry not in sys.path]
from duramen.projections.recorded.workers.fold_server import main
sys.exit(main())
"""


class SameInAnotherProcess(Law):
    """Another process with another `PYTHONHASHSEED` folds a log to the same state, whatever hashes it has."""

    name: ClassVar[str] = "another process comes to the same"

    def __init__(self) -> None:
        self._process: _Process | None = None

    @contextmanager
    def opened(self, subject: Subject) -> Generator[None]:
        setup = _setup(subject)
        self._process = _Process()
        try:
            kind, text = self._process.ask(setup)
            if kind != "ready":
                raise NotChecked(f"another process cannot import it: {text}")
            yield
        finally:
            self._process.close()
            self._process = None

    def check(self, subject: Subject, log: StoredLog) -> None:
        assert self._process is not None, "opened() comes first"
        here = folded(subject, log.events())
        try:
            kind, there = self._process.ask([log.agent, list(log.items)])
        except TimeoutError:
            raise self.broken(f"the other process gave no answer within {_SECONDS:.0f} s") from None
        if kind == "raised":
            raise self.broken(f"in another process it raised {there}")
        self.compare("another process folded the same events to something else", here, there)


class _Process:
    """A worker process that folds logs."""

    def __init__(self) -> None:
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _WORKER, *sys.path],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, message: Any) -> tuple[str, str]:
        """Send a message and wait for the answer: `failed` from a process that has ended. Raises TimeoutError."""
        deadline = monotonic() + _SECONDS
        try:
            send(cast("BinaryIO", self._process.stdin), message)
            answer = receive(lambda size: self._read(size, deadline))
        except BrokenPipeError:
            answer = None
        return ("failed", "it ended at once") if answer is None else (answer[0], answer[1])

    def _read(self, size: int, deadline: float) -> bytes:
        output = cast("BinaryIO", self._process.stdout).fileno()
        found = b""
        while len(found) < size:
            if not select.select([output], [], [], max(0.0, deadline - monotonic()))[0]:
                raise TimeoutError
            part = os.read(output, size - len(found))
            if not part:
                break
            found += part
        return found

    def close(self) -> None:
        process = self._process
        cast("BinaryIO", process.stdin).close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        cast("BinaryIO", process.stdout).close()


def _setup(subject: Subject) -> list[Any]:
    """The setup of the worker: what to import. Raises NotChecked for a subject it could not import."""
    if subject.single:
        raise NotChecked("an instance was given; give the class, so that another process can make one")
    classes = subject.registry.types().values()
    modules = sorted({(cls.__module__, _file(sys.modules.get(cls.__module__))) for cls in classes})
    importable = [[module, file] for module, file in modules if module in sys.modules]
    return [importable, _place(subject.factory), _place(subject.adapt), _registry(subject)]


def _place(thing: Any) -> list[str]:
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or name is None or "<" in name:
        raise NotChecked("another process finds only what stands at the top of a module; this does not")
    return [module, _file(inspect.getmodule(thing)), name]


def _registry(subject: Subject) -> list[str] | None:
    if subject.registry is DECLARED:
        return None
    for cls in (subject.factory, *subject.classes, *subject.registry.types().values()):
        module = sys.modules.get(str(getattr(cls, "__module__", "")))
        for name, value in list(vars(module).items()) if module else ():
            if value is subject.registry:
                return [module.__name__, _file(module), name] if module else None
    raise NotChecked("another process finds only a registry that has a name in the module of what is checked")


def _file(module: ModuleType | None) -> str:
    return str(getattr(module, "__file__", None) or "")
