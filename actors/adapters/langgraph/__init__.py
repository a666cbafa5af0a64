"""LangGraph on duramen: a checkpointer (`DuramenSaver`). Extra: `duramen[langgraph]`."""

from __future__ import annotations

from .saver import DuramenSaver

__all__ = ["DuramenSaver"]
