"""Session files: export and import of agents with their logs."""

from __future__ import annotations

from .atomic_file import open_atomically
from .erasing import Erasure, erase_agents, finish_erasures
from .exporting import Session, export_session, to_json_line
from .importing import import_session

__all__ = [
    "Erasure",
    "Session",
    "erase_agents",
    "export_session",
    "finish_erasures",
    "import_session",
    "open_atomically",
    "to_json_line",
]
