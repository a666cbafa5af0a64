"""LlamaIndex on duramen: a chat store whose keys are agents. Extra: `duramen[llamaindex]`."""

from __future__ import annotations

from .chat_store import DuramenChatStore

__all__ = ["DuramenChatStore"]
