"""The embedded Valkey server and its data directory."""

from __future__ import annotations

from .data_directory import DataDirectory
from .server import EmbeddedServer

__all__ = ["DataDirectory", "EmbeddedServer"]
