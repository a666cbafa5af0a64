"""Refuse what makes the rooms hard to walk: a sub-package entered past its door, a circle of files, a wide folder.

A sub-package's `__init__.py` is its door: code outside it imports from there, and code inside from the files. Files
of a room itself (`events/errors.py`) have no door. Imports under TYPE_CHECKING and inside functions count.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from tree import ROOMS

__all__ = ["Import", "circles", "doors_of", "imports_of_rooms", "past_a_door", "wide_folders"]

MOST_ENTRIES = 13
#: Packages of their own, `duramen` and `duramen.adapters`, which only lie there.
GUESTS = {"actors/adapters", "actors/front_door"}


class Import(NamedTuple):
    """One name that a module takes from another one."""

    importer: str
    line: int
    module: str
    name: str
    lazily: bool
    """Inside a function, or under TYPE_CHECKING: not when the module is loaded."""


def main() -> int:
    root = Path.cwd()
    imports = list(imports_of_rooms(root))
    found = [*past_a_door(imports, doors_of(root)), *circles(imports), *wide_folders(root)]
    print("\n".join(found) if found else f"nothing found in {len(imports)} imports")
    return 1 if found or not imports else 0


def imports_of_rooms(root: Path) -> Iterator[Import]:
    """Every import between modules of the rooms. A door that is imported from counts as the module it stands for."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            yield from _imports_of(path, path.relative_to(root))


def _imports_of(path: Path, place: Path) -> Iterator[Import]:
    module = ".".join(("duramen", *place.with_suffix("").parts)).removesuffix(".__init__")
    package = module if place.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_bytes())
    loaded = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        source = ".".join(part for part in (base, node.module or "") if part)
        if source.startswith("duramen."):
            for alias in node.names:
                yield Import(module, node.lineno, source, alias.name, id(node) not in loaded)


def doors_of(root: Path) -> set[str]:
    """The modules that are doors: the packages of the rooms."""
    doors = (path.parent for room in ROOMS for path in (root / room).rglob("__init__.py"))
    return {".".join(("duramen", *door.relative_to(root).parts)) for door in doors}


def past_a_door(imports: list[Import], doors: set[str]) -> Iterator[str]:
    """Imports of a file of a sub-package by code that is not in it."""
    for found in imports:
        package = found.module.rpartition(".")[0]
        of_a_room = package.count(".") < 2
        if of_a_room or found.module in doors:
            continue
        if package not in _packages_of(found.importer):
            yield f"{found.importer}:{found.line}: take {found.name} from {package}, not from {found.module}"


def _packages_of(module: str) -> set[str]:
    """The packages that a module lies in, and itself, which may be the door of one."""
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(2, len(parts) + 1)}


def circles(imports: list[Import]) -> Iterator[str]:
    """Modules that import each other; those that only load when a function runs count, too."""
    graph: Mapping[str, set[str]] = defaultdict(set)
    modules = {found.importer for found in imports}
    for found in imports:
        below = f"{found.module}.{found.name}"
        target = below if below in modules else found.module
        if target != found.importer and target in modules:
            graph[found.importer].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"a circle of imports: {' -> '.join(error.args[1])}"


def wide_folders(root: Path) -> Iterator[str]:
    """Folders with more entries than a reader takes in at a look."""
    for room in ROOMS:
        entries: dict[Path, set[Path]] = defaultdict(set)
        for path in (root / room).rglob("*"):
            if path.suffix in (".py", ".lua") and path.name != "__init__.py":
                entries[path.parent].add(path)
                if path.parent.relative_to(root).as_posix() not in GUESTS:
                    entries[path.parent.parent].add(path.parent)
        for folder, held in sorted(entries.items()):
            place = folder.relative_to(root).as_posix()
            if len(held) > MOST_ENTRIES and folder != root:
                yield f"{place}: {len(held)} entries, at most {MOST_ENTRIES} are easy to take in"


if __name__ == "__main__":
    sys.exit(main())
