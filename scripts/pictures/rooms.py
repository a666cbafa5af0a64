"""The rooms inside the rooms: one box a sub-package, in the layers of setup.cfg, arrows from the code's own imports.

An arrow is left out where a longer way says the same: from api to commands, say, if api imports runtime and runtime
imports commands. A box's sentence is the docstring of the sub-package's door.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

from layout import Import, imports_of_rooms
from pictures.svg import Box, arrow, page, text

__all__ = ["draw_rooms"]

ROOMS = {"actors": "decide", "projections": "fold and follow", "events": "facts, and the log they are kept in"}
WIDTH, GAP, LAYER = 1100, 18, 34
WIDEST = 400

Graph = Mapping[str, set[str]]


def draw_rooms(root: Path) -> str:
    """The picture as SVG. `root` is the project's folder."""
    imports = list(imports_of_rooms(root))
    content: list[str] = []
    y, bottoms = 24.0, []
    for room, does in ROOMS.items():
        layers = layers_of(root, room)
        boxes = _boxes(root, room, layers, y + 46)
        bottom = max(box.y + box.height for box in boxes.values()) + 20
        content.append(f'  <rect class="room" x="20" y="{y:g}" width="{WIDTH - 40}" height="{bottom - y:g}" rx="10"/>')
        content.append(text(40, y + 30, f"{room}/", "title"))
        content.append(text(40 + 12 * len(room) + 24, y + 30, does))
        content += _arrows(boxes, reduced(graph_of(imports, room, set(boxes))))
        content += [line for box in boxes.values() for line in box.draw()]
        bottoms.append(bottom)
        y = bottom + 44
    for bottom in bottoms[:-1]:
        content.append(arrow(f"M{WIDTH / 2:g} {bottom:g} V{bottom + 42:g}"))
        content.append(text(WIDTH / 2 + 14, bottom + 27, "imports, and never the other way"))
    about = "Three rooms, actors above projections above events, each with its sub-packages in layers."
    return page("The rooms inside the rooms", about, WIDTH, y - 20, content)


def layers_of(root: Path, room: str) -> list[list[str]]:
    """The layers of a room from the top, as the import contract in setup.cfg has them."""
    parser = ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    lines = parser[f"importlinter:contract:{room}"]["layers"].strip().splitlines()
    return [[name.strip() for name in line.split("|")] for line in lines]


def graph_of(imports: list[Import], room: str, names: set[str]) -> Graph:
    """Which sub-packages (or files of the room itself) import which, inside a room."""
    graph: dict[str, set[str]] = defaultdict(set)
    for found in imports:
        if _room(found.importer) == _room(found.module) == room:
            importer, imported = _part(found.importer), _part(found.module)
            if importer != imported and {importer, imported} <= names:
                graph[importer].add(imported)
    return graph


def reduced(graph: Graph) -> Graph:
    """Without the arrows that a longer way says, too. The graph has no circles."""

    def reachable(name: str) -> set[str]:
        found = set(graph.get(name, ()))
        return found.union(*(reachable(below) for below in found)) if found else found

    return {
        name: {to for to in below if not any(to in reachable(other) for other in below)}
        for name, below in graph.items()
    }


def _boxes(root: Path, room: str, layers: list[list[str]], y: float) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    for layer in layers:
        width = min(WIDEST, (WIDTH - 80 - (len(layer) - 1) * GAP) / len(layer))
        left = (WIDTH - len(layer) * width - (len(layer) - 1) * GAP) / 2
        row = [
            Box(round(left + number * (width + GAP)), y, round(width), 0, room, *_words(root / room / name)).fitted()
            for number, name in enumerate(layer)
        ]
        height = max(box.height for box in row)
        boxes |= {name: replace(box, height=height) for name, box in zip(layer, row, strict=True)}
        y += height + LAYER
    return boxes


def _words(path: Path) -> tuple[str, str]:
    """Head and sentence of a sub-package, or of a single file."""
    folder = path.is_dir()
    source = path / "__init__.py" if folder else path.with_suffix(".py")
    sentence = (
        (ast.get_docstring(ast.parse(source.read_bytes())) or "").split("\n\n")[0].replace("\n", " ").replace("`", "")
    )
    return (f"{path.name}/" if folder else source.name), sentence


def _arrows(boxes: Mapping[str, Box], graph: Graph) -> Iterator[str]:
    into = {name: sorted(n for n, below in graph.items() if name in below) for name in boxes}
    for name in sorted(graph):
        below = sorted(sorted(graph[name]), key=lambda to: boxes[to].x)
        for number, to in enumerate(below, 1):
            start, end = boxes[name], boxes[to]
            sources = sorted(into[to], key=lambda source: boxes[source].x)
            x0 = start.x + start.width * number / (len(below) + 1)
            x1 = end.x + end.width * (sources.index(name) + 1) / (len(sources) + 1)
            y0, y1 = start.y + start.height, end.y - 1
            if y1 <= y0:  # beside each other, in one layer
                continue
            bend = min(40.0, (y1 - y0) / 2)
            yield arrow(f"M{x0:.0f} {y0:g} C{x0:.0f} {y0 + bend:g} {x1:.0f} {y1 - bend:g} {x1:.0f} {y1:g}")


def _room(module: str) -> str:
    return module.split(".")[1]


def _part(module: str) -> str:
    parts = module.split(".")
    return parts[2] if len(parts) > 2 else ""
