"""Sessions as files."""

from __future__ import annotations

from .atomic_file import whole_file
from .exporting import Session, export_session, json_line
from .importing import import_session

__all__ = ["Session", "export_session", "import_session", "json_line", "whole_file"]
