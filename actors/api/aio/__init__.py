"""The calls of a system for asyncio."""

from __future__ import annotations

from .system import AsyncSystem, SystemCalls

__all__ = ["AsyncSystem", "SystemCalls"]
