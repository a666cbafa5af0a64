"""What is wrong with a page before it is run: blocks that nobody runs, links that lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path

from docs.pages import ROOT, anchors, blocks, links
from docs.running import console_commands

__all__ = ["broken_links", "complaints"]

# Read apart from the parser of pages: what opens a block for a reader, wherever it stands.
_OPENS = re.compile(r"^[\s>*+-]*(?:`{3,}|~{3,})\s*(python|console)\b", re.MULTILINE | re.IGNORECASE)
_NEARLY = {"bash", "ipython", "py", "pycon", "python3", "sh", "shell", "shell-session", "zsh"}
_DURAMEN = re.compile(r"^\s*(\$ )?duramen\b|^\s*(>>> |import duramen|from duramen)", re.MULTILINE)


def complaints(page: Path) -> list[str]:
    """Why a reader of this page could see something that was never run."""
    found = blocks(page)
    shown = len(_OPENS.findall(page.read_text(encoding="utf-8")))
    known = sum(block.language in {"python", "console"} for block in found)
    said = [f"{shown} python and console blocks are shown, {known} can be run"] if shown != known else []
    for block in found:
        unknown = [option for option in block.options if option != "check" and not option.startswith("skip=")]
        if block.skip is not None and not block.skip:
            said.append(f'{block.place}: say why: skip="reason"')
        elif block.language in {"python", "console"} and unknown:
            said.append(f'{block.place}: what do {unknown} mean? There are check and skip="reason"')
        elif block.language.lower() in _NEARLY and _DURAMEN.search(block.text):
            said.append(f"{block.place}: {block.language} is not run: call the block python or console")
        elif block.language == "console" and block.skip is None and not console_commands(block):
            said.append(f"{block.place}: there is no `$ ` before a command")
    return said


def broken_links(page: Path, root: Path = ROOT) -> list[str]:
    return [link for link in links(page) if not _leads_somewhere(link, page, root)]


def _leads_somewhere(link: str, page: Path, root: Path) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return True
    path, _, anchor = link.partition("#")
    target = (root / path.lstrip("/") if path.startswith("/") else page.parent / path) if path else page
    if not target.exists() or not target.resolve().is_relative_to(root.resolve()):
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)
