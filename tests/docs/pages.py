"""The pages of the project as data: their fenced blocks, links and headings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from attrs import frozen

__all__ = ["ROOT", "Block", "anchors", "blocks", "links", "pages"]

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<fence>`{3,}|~{3,})[ ]*(?P<info>[^`]*)$")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


@frozen
class Block:
    """A fenced block. `line` is where its text begins, from 1; the first word of the fence is `language`."""

    page: Path
    line: int
    language: str
    options: tuple[str, ...]
    text: str

    @property
    def skip(self) -> str | None:
        """The reason why the block is not run; an empty one where the fence gives none."""
        for option in self.options:
            if option.startswith("skip"):
                return option.partition("=")[2].strip()
        return None

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def pages(root: Path = ROOT) -> list[Path]:
    """Every page that a reader is sent to."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks in order. Raises ValueError for a fence that is never closed."""
    return _split(page)[0]


def links(page: Path) -> list[str]:
    """Where the page's links lead, without those that are shown as code."""
    prose = _CODE_SPAN.sub("", _split(page)[1])
    return ["".join(found) for found in _LINK.findall(prose)]


def anchors(page: Path) -> set[str]:
    """The names of the page's headings, as the usual hosts of Markdown make them."""
    found: list[str] = []
    for heading in _HEADING.findall(_split(page)[1]):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(name if name not in found else f"{name}-{found.count(name)}")
    return set(found)


def _split(page: Path) -> tuple[list[Block], str]:
    """The fenced blocks, and everything else."""
    found: list[Block] = []
    prose: list[str] = []
    opened: re.Match[str] | None = None
    text: list[str] = []
    start = 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence is None:
            prose.append(line)
        elif opened is None:
            opened, text, start = fence, [], number + 1
        elif fence is not None and not fence["info"] and fence["fence"].startswith(opened["fence"]):
            found.append(_block(page, start, opened["info"], text))
            opened = None
        else:
            text.append(line.removeprefix(opened["indent"]))
    if opened is not None:
        raise ValueError(f"{page}:{start - 1}: this fence is never closed")
    return found, "\n".join(prose)


def _block(page: Path, line: int, info: str, text: list[str]) -> Block:
    language, *options = shlex.split(info) or [""]
    return Block(page, line, language, tuple(options), "\n".join(text) + "\n")
