"""Folds logs in a process of its own: the other end of the law that a replay is the same there.

Reads requests from standard input and answers on standard output, each a length in four bytes and msgpack. The first
request says what to fold with: modules to import, and where the factory and its adapter are found.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgpack
from duramen.events import EventRegistry
from duramen.events.model import DECLARED

from ...projection import fold
from ..portrait import portrait
from ..stored_log import StoredLog

__all__ = ["bring", "locate", "main", "receive", "send"]

_SIZE: Final = 4
_MAIN: Final = "__duramen_main__"

Place = tuple[str, str, str]
"""Module, file (empty: by the name alone), and dotted name in it."""


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message."""
    packed: bytes = msgpack.packb(message)
    stream.write(len(packed).to_bytes(_SIZE, "big") + packed)
    stream.flush()


def receive(read: Callable[[int], bytes]) -> Any:
    """Read one message; None at the end. `read` returns exactly as many bytes as asked for, or fewer at the end."""
    size = read(_SIZE)
    if len(size) < _SIZE:
        return None
    body = read(int.from_bytes(size, "big"))
    return msgpack.unpackb(body)


def locate(place: Place) -> Any:
    """The thing at a place, its module imported by name, or from its file where that finds another one or none."""
    module, file, name = place
    found = bring(module, file)
    return reduce(getattr, name.split("."), found) if name else found


def bring(name: str, file: str) -> Any:
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
    spec = importlib.util.spec_from_file_location(own, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = sys.modules[own] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's code prints must not get into the answers
    requests = sys.stdin.buffer
    setup = receive(requests.read)
    if setup is None:
        return 0
    try:
        make, registry = _prepared(setup)
    except BaseException as error:
        send(answers, ["failed", f"{type(error).__name__}: {error}"])
        return 1
    send(answers, ["ready", ""])
    while (request := receive(requests.read)) is not None:
        send(answers, _answer(make, registry, request))
    return 0


def _prepared(setup: Any) -> tuple[Callable[[], Any], EventRegistry]:
    modules, factory, adapter, registry = setup
    for module, file in modules:
        bring(module, file)
    known = DECLARED if registry is None else locate(tuple(registry))
    made, adapt = locate(tuple(factory)), locate(tuple(adapter))
    return lambda: adapt(made, known), known


def _answer(make: Callable[[], Any], registry: EventRegistry, request: Any) -> list[str]:
    agent, items = request
    try:
        return ["state", portrait(fold(make(), StoredLog(tuple(items), agent, registry).events()))]
    except Exception as error:
        return ["raised", f"{type(error).__name__}: {error}"]
