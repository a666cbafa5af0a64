"""Refuse what must not stand in the rooms: code that executes data, and comments that silence a checker.

Nothing read from a server may execute, and no finding of a checker is waved away where users' data passes.
Method names are free (`redis.eval` is not Python's `eval`), so Python is read as a tree and not as text.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tree import ROOMS

MODULES = {"cloudpickle", "code", "dill", "jsonpickle", "marshal", "pickle", "runpy", "shelve"}
BUILTINS = {"__import__", "compile", "eval", "exec"}
METHODS = {
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("os", "system"),
    ("os", "popen"),
}
SILENCERS = re.compile(r"type:\s*ignore|pyright:\s*ignore|noqa|nosec|pragma:\s*no cover|mypy:", re.IGNORECASE)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
LUA = re.compile(r"\b(loadstring|load|loadfile|dofile|require)\s*\(")


def main() -> int:
    root = Path.cwd()
    python = sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))
    lua = sorted(path for room in ROOMS for path in (root / room).rglob("*.lua"))
    found = [
        f"{path.relative_to(root)}:{line}: {what}"
        for paths, search in ((python, in_python), (lua, in_lua))
        for path in paths
        for line, what in search(path)
    ]
    print("\n".join(found) if found else f"nothing found in {len(python)} Python and {len(lua)} Lua files")
    return 1 if found or not python else 0


def in_python(path: Path) -> Iterator[tuple[int, str]]:
    code = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            yield from imports(node)
        elif isinstance(node, ast.expr):
            yield from calls(node)
    if SILENCERS.search(code) or UNFINISHED.search(code):  # seldom, and tokens take longer than all the rest
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT and SILENCERS.search(token.string):
                yield token.start[0], f"a comment that silences a checker: {token.string}"
            if token.type == tokenize.COMMENT and UNFINISHED.search(token.string):
                yield token.start[0], f"unfinished work: {token.string}"


def imports(node: ast.stmt) -> Iterator[tuple[int, str]]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module]
    for name in names:
        if name.split(".")[0] in MODULES:
            yield node.lineno, f"imports {name}, which executes what it reads"


def calls(node: ast.expr) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Name(id=name) if name in BUILTINS:
            yield node.lineno, f"uses {name}, which executes what it reads"
        case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in METHODS:
            yield node.lineno, f"uses {module}.{name}, which executes what it reads"


def in_lua(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.split("--")[0]
        if found := LUA.search(code):
            yield number, f"calls {found[1]}, which executes what it reads"


if __name__ == "__main__":
    sys.exit(main())
