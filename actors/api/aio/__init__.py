"""The same for asyncio."""

from __future__ import annotations

from .system import AsyncSystem

__all__ = ["AsyncSystem"]
