"""The examples in docstrings are true.

Through `doctest.testmod` on the imported module: pytest's `--doctest-modules` would import each file a second
time under another name, and the second copy would register its event types again.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import duramen.actors
import duramen.events
import duramen.projections

_ROOMS = (duramen.events, duramen.projections, duramen.actors)
_PROMPT = re.compile(r"^\s*>>> ", re.MULTILINE)


def modules() -> Iterator[str]:
    for room in _ROOMS:
        yield room.__name__
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            # Importing a `__main__` runs the program.
            if not found.name.endswith(".__main__"):
                yield found.name


def tried(module: ModuleType) -> tuple[int, int]:
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    return result.failed, result.attempted


@pytest.mark.parametrize("name", list(modules()))
def test_every_example_of_a_module_is_run_and_true(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    shown = len(_PROMPT.findall(Path(inspect.getfile(module)).read_text(encoding="utf-8")))
    if not shown:  # a search in all that a module holds takes longer than most examples
        return
    failed, attempted = tried(module)
    assert failed == 0, capsys.readouterr().out
    # A docstring that doctest does not find (of a nested function, say) must not pass for a checked one.
    assert attempted >= shown


def test_modules_of_each_room_are_found() -> None:
    assert {name.split(".")[1] for name in modules()} == {"actors", "events", "projections"}


@pytest.mark.parametrize(("text", "expected"), [(">>> 1 + 1\n2", (0, 1)), (">>> 1 + 1\n3", (1, 1)), ("", (0, 0))])
def test_a_wrong_example_is_noticed(text: str, expected: tuple[int, int]) -> None:
    assert tried(ModuleType("sample", text)) == expected
