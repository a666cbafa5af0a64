"""LangGraph on duramen: a checkpointer and a store. Extra: `duramen[langgraph]`."""

from __future__ import annotations

from .saver import DuramenSaver
from .store import DuramenStore

__all__ = ["DuramenSaver", "DuramenStore"]
