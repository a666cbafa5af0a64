"""A helper that folds logs, for the law that a replay is the same in another process.

The first message says what to fold with: modules to import, and where the factory, its adapter and the registry are
found. Each further one is an agent and its items, answered by the portrait of the state.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, Final, NoReturn

from duramen.events import EventRegistry
from duramen.events.helper_process import Connection, connect_to_parent
from duramen.events.model import DECLARED

from ...projection import fold
from ..portrait import portrait
from ..stored_log import StoredLog

_MAIN: Final = "__duramen_main__"

_ACTIONS: Final = (
    ast.Expr,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Assert,
    ast.Delete,
    ast.Raise,
)
"""Statements of a script that do something, and so belong to its own process."""

Place = tuple[str, str, str]
"""Module, file (empty: by the name alone), and dotted name in it."""


def locate(place: Place) -> Any:
    """The thing at a place, its module imported by name, or from its file where that finds another one or none."""
    module, file, name = place
    found = import_module(module, file)
    return reduce(getattr, name.split("."), found) if name else found


def import_module(name: str, file: str) -> Any:
    """The module of a name, from its file where the name alone finds another one or none. Raises what it raises."""
    if name != "__main__":
        try:
            module = importlib.import_module(name)
        except ImportError:
            module = None
        known = getattr(module, "__file__", None)
        if module is not None and (not file or known is None or Path(known).samefile(file)):
            return module
    own = _MAIN if name == "__main__" else name
    if own in sys.modules and getattr(sys.modules[own], "__file__", None) == file:
        return sys.modules[own]
    loader = _DefinitionLoader(own, file) if name == "__main__" else None
    spec = importlib.util.spec_from_file_location(own, file, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = sys.modules[own] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _DefinitionLoader(SourceFileLoader):
    """Loads a script without running it: its imports, definitions and assignments, and no bytecode."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"no bytecode of {path} is read or written")

    def get_data(self, path: str) -> bytes:
        tree = ast.parse(super().get_data(path), path)
        tree.body = [node for node in tree.body if not isinstance(node, _ACTIONS)]
        return ast.unparse(tree).encode()


def main() -> NoReturn:
    """Answer requests until the parent ends, then end this process."""
    connection = connect_to_parent("duramen-fold-end")
    os.dup2(2, 1)  # what the user's code prints is seen
    code = 0
    try:
        setup = connection.receive()
        if setup is not None:
            _serve(connection, setup)
    except OSError:
        code = 1  # the parent has ended
    os._exit(code)


def _serve(connection: Connection, setup: Any) -> None:
    try:
        make, registry = _prepared(setup)
    except BaseException as error:
        connection.send("failed", f"{type(error).__name__}: {error}")
        return
    connection.send("ready", "")
    while (request := connection.receive()) is not None:
        connection.send(*_answer(make, registry, request))


def _prepared(setup: Any) -> tuple[Callable[[], Any], EventRegistry]:
    modules, factory, adapter, registry = setup
    for module, file in modules:
        import_module(module, file)
    known = DECLARED if registry is None else locate(tuple(registry))
    made, adapt = locate(tuple(factory)), locate(tuple(adapter))
    return lambda: adapt(made, known), known


def _answer(make: Callable[[], Any], registry: EventRegistry, request: Any) -> list[str]:
    agent, items = request
    try:
        return ["state", portrait(fold(make(), StoredLog(tuple(items), agent, registry).events()))]
    except Exception as error:
        return ["raised", f"{type(error).__name__}: {error}"]
