"""The log in memory."""

from __future__ import annotations

from .log import MemoryLog

__all__ = ["MemoryLog"]
