"""The law that another process, where strings have other hashes, replays to the same state."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Final

from duramen.events.helper_process import HelperGone, HelperProcess, HelperSilent
from duramen.events.model import DECLARED

from ...recorded import StoredLog
from ..search import INSIDE
from ..subject import Subject
from .law import Law, NotChecked, folded

_SECONDS: Final = 60.0
"""The time-out of an answer; the first answer includes all imports."""


class SameInAnotherProcess(Law):
    """Another process with another `PYTHONHASHSEED` folds a log to the same state, whatever hashes it has."""

    name: ClassVar[str] = "another process comes to the same"

    def __init__(self) -> None:
        self._helper: HelperProcess | None = None

    @contextmanager
    def opened(self, subject: Subject) -> Generator[None]:
        setup = _setup(subject)
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        self._helper = HelperProcess(
            "duramen.projections.recorded.workers.fold_server",
            timeout=_SECONDS,
            environment={**os.environ, "PYTHONHASHSEED": seed, INSIDE: "1"},
        )
        try:
            kind, text = _ask(self._helper, *setup)
            if kind != "ready":
                raise NotChecked(f"another process cannot import it: {text}")
            yield
        finally:
            self._helper.close()
            self._helper = None

    def check(self, subject: Subject, log: StoredLog) -> None:
        assert self._helper is not None, "opened() comes first"
        here = folded(subject, log.events())
        try:
            kind, there = _ask(self._helper, log.agent, list(log.items))
        except HelperSilent:
            raise self.broken(f"the other process gave no answer within {_SECONDS:.0f} s") from None
        if kind == "raised" and there.startswith("NameError"):  # it did not happen here
            raise NotChecked(f"another process loads only the definitions of a script, and one is missing: {there}")
        if kind == "raised":
            raise self.broken(f"in another process it raised {there}")
        self.compare("another process folded the same events to something else", here, there)


def _ask(helper: HelperProcess, *message: Any) -> tuple[str, str]:
    """The helper's answer; one that has ended answers `failed`. Raises HelperSilent."""
    try:
        helper.send(*message)
        kind, text = helper.receive()
    except HelperSilent:
        raise
    except HelperGone:
        return "failed", "it ended at once"
    return kind, text


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
