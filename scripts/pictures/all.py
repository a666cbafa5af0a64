"""All pictures that are drawn by a script, by the name of their file."""

from __future__ import annotations

from pathlib import Path

from pictures.rooms import draw_rooms
from pictures.walks import WALKS, draw_walk

__all__ = ["drawn"]


def drawn(root: Path) -> dict[str, str]:
    """Every picture as SVG. `root` is the project's folder."""
    return {"rooms.svg": draw_rooms(root), **{name: draw_walk(walk) for name, walk in WALKS.items()}}
