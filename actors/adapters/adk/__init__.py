"""Google's ADK on duramen: sessions with their state, and memory that is searched. Extra: `duramen[adk]`."""

from __future__ import annotations

from .memory import DuramenMemoryService
from .sessions import DuramenSessionService

__all__ = ["DuramenMemoryService", "DuramenSessionService"]
