"""A Valkey of our own."""

from __future__ import annotations

from .data_directory import DataDirectory
from .server import EmbeddedServer

__all__ = ["DataDirectory", "EmbeddedServer"]
