"""What a page needs besides its text before Sphinx reads it: lists of names, and links that a site can follow."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from sphinx.application import Sphinx

__all__ = ["prepare_page"]

_NAMES = re.compile(r"<!-- names of ([\w.]+) -->")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)\)")
_ROOMS = ("duramen.events", "duramen.projections", "duramen.actors")

_DECISIONS = "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def prepare_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change what Sphinx is about to read; the file stays as it is."""
    folder = (Path(app.srcdir) / docname).parent
    text = _LINK.sub(lambda link: _without_folders(link, folder), source[0])
    text = _NAMES.sub(lambda names: documented_names(names[1]), text)
    # The usual hosts of Markdown draw it. Here it is shown as text: drawing would need a script from elsewhere.
    text = text.replace("```mermaid\n", "```text\n")
    source[0] = text + _DECISIONS if docname == "docs/decisions/README" else text


def documented_names(door: str) -> str:
    """A section for each name of a package's `__all__`, but for those that a room further down has, too."""
    module = importlib.import_module(door)
    below = _ROOMS[: _ROOMS.index(door)] if door in _ROOMS else _ROOMS
    taken = {name for room in below for name in importlib.import_module(room).__all__}
    return "\n\n".join(_section(door, name) for name in module.__all__ if name not in taken)


def _section(door: str, name: str) -> str:
    found = getattr(importlib.import_module(door), name)
    kind = "class" if isinstance(found, type) else "function" if callable(found) else "data"
    members = "\n   :members:\n   :show-inheritance:" if kind == "class" else ""
    return f"## `{name}`\n\n```{{eval-rst}}\n.. auto{kind}:: {door}.{name}{members}\n```"


def _without_folders(link: re.Match[str], folder: Path) -> str:
    """A link to a folder, which a host of repositories can show and a site cannot, becomes its text."""
    return link[1] if (folder / link[2]).is_dir() else link[0]
