"""The modules of the page as one script, since a file that is opened without a server cannot import others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

# The few forms that the page's own modules use, each on a line of its own.
_IMPORT: Final = re.compile(r'^import \{ ([^}]+) \} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:class|function\*?|const|let) (\w+))", re.MULTILINE)
_LIST: Final = re.compile(r"^export \{ ([^}]+) \};\n", re.MULTILINE)
_LEFT: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def bundle(modules: Mapping[str, str], starts: Iterable[str], replaced: Mapping[str, str]) -> str:
    """One script that runs the `starts` in order, each module once and after those that it imports.

    `replaced` names modules in whose place others are used. Raises ValueError for a form that is not known.
    """
    parts: dict[str, str] = {}
    for name in starts:
        _add(name, modules, replaced, parts)
    return '"use strict";\n' + "".join(parts.values())


def _add(name: str, modules: Mapping[str, str], replaced: Mapping[str, str], parts: dict[str, str]) -> None:
    if name in parts:
        return
    text = modules[name]
    for found in _IMPORT.finditer(text):
        _add(replaced.get(found[2], found[2]), modules, replaced, parts)
    parts[name] = _as_function(name, text, replaced)


def _as_function(name: str, text: str, replaced: Mapping[str, str]) -> str:
    """A module as a function that is called at once and returns what it exports."""
    exported = [found[1] for found in _EXPORT.finditer(text)]
    exported += [each for found in _LIST.finditer(text) for each in found[1].split(", ")]

    def taken(found: re.Match[str]) -> str:
        return f"const {{ {found[1]} }} = {_variable(replaced.get(found[2], found[2]))};\n"

    body = _LIST.sub("", _EXPORT.sub("", _IMPORT.sub(taken, text)))
    left = _LEFT.search(body)
    if left is not None:
        raise ValueError(f"{name}: this form of import or export is not known: {left[0]}")
    return f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();\n"


def _variable(name: str) -> str:
    return f"module_{name.removesuffix('.js')}"
