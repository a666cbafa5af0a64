"""A clean copy of the project: what a fresh clone would hold, uncommitted changes included."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["ROOMS", "copy_project", "files_below"]

ROOMS = ("actors", "events", "projections")

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".duramen", ".hypothesis", ".*_cache", "__pycache__", "build", "dist", "*.egg-info"
)


def copy_project(root: Path, to: Path) -> Path:
    """Copy the project without anything that tools have left in it; links stay links."""
    return Path(shutil.copytree(root, to, symlinks=True, ignore=_LEFT_OUT))


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path from there, without what Python and the tools leave behind."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
