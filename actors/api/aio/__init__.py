"""The calls of a system for asyncio."""

from __future__ import annotations

from .consumers import AsyncConsumers
from .system import AsyncSystem

__all__ = ["AsyncConsumers", "AsyncSystem"]
