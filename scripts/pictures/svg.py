"""What all pictures have in common: colours for light and dark pages, boxes, text that is wrapped, arrows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from xml.sax.saxutils import escape

__all__ = ["Box", "arrow", "page", "text"]

#: Width of a character of the text font, in pixels at 12.5 px: rounded up, so that a line never leaves its box.
CHARACTER = 7.0

_STYLE = """\
    .page { fill: #fbfaf7; stroke: #d9d4c9; }
    .room { fill: #f4f1ea; stroke: #d9d4c9; }
    .lane { fill: none; stroke: #d9d4c9; }
    .actors { fill: #ffffff; stroke: #3c5f8a; }
    .projections { fill: #ffffff; stroke: #3c7a52; }
    .events { fill: #ffffff; stroke: #9a5b1d; }
    .soft { fill: #545c66; }
    .place { fill: #6b7079; font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: 10.5px; }
    .head { fill: #22262b; font-weight: 600; font-size: 14px; }
    .title { fill: #22262b; font-weight: 600; font-size: 17px; }
    .line { fill: none; stroke: #7b838d; stroke-width: 1.3; }
    .tip { fill: #7b838d; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #1b1e22; stroke: #3a3f46; }
      .room { fill: #20242a; stroke: #3a3f46; }
      .lane { stroke: #3a3f46; }
      .actors { fill: #24282e; stroke: #7fa6d6; }
      .projections { fill: #24282e; stroke: #74b48b; }
      .events { fill: #24282e; stroke: #d2944f; }
      .head, .title { fill: #eceef0; }
      .soft { fill: #b4bbc4; }
      .place { fill: #98a0a9; }
      .line { stroke: #98a0a9; }
      .tip { fill: #98a0a9; }
    }"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a head and wrapped lines below it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    head: str
    body: str = ""

    def lines(self) -> list[str]:
        return wrap(self.body, int((self.width - 24) / CHARACTER))

    def fitted(self) -> Box:
        """As high as its text needs."""
        return Box(self.x, self.y, self.width, 40 + 17 * len(self.lines()), self.kind, self.head, self.body)

    def draw(self) -> Iterator[str]:
        yield (
            f'  <rect class="{self.kind}" x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" '
            f'height="{self.height:g}" rx="7" stroke-width="1.5"/>'
        )
        yield text(self.x + 12, self.y + 23, self.head, "head")
        for number, line in enumerate(self.lines()):
            yield text(self.x + 12, self.y + 43 + 17 * number, line)


def text(x: float, y: float, words: str, kind: str = "soft", anchor: str = "start") -> str:
    """One line of text; `y` is its base line."""
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'  <text class="{kind}" x="{x:g}" y="{y:g}"{end}>{escape(words)}</text>'


def arrow(path: str) -> str:
    """A line along an SVG path, with a tip at its end."""
    return f'  <path class="line" d="{path}" marker-end="url(#tip)"/>'


def page(title: str, about: str, width: float, height: float, content: list[str]) -> str:
    """The whole file."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="title desc" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12.5\">"
    )
    tip = (
        '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path class="tip" d="M0 0 10 5 0 10z"/></marker></defs>'
    )
    around = f'  <rect class="page" x="1" y="1" width="{width - 2:g}" height="{height - 2:g}" rx="12"/>'
    lines = [
        head,
        f'  <title id="title">{escape(title)}</title>',
        f'  <desc id="desc">{escape(about)}</desc>',
        f"  <style>\n{_STYLE}\n  </style>",
        tip,
        around,
        *content,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
