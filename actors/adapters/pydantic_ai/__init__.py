"""pydantic-ai on duramen: conversations that are agents. Extra: `duramen[pydantic-ai]`."""

from __future__ import annotations

from .conversations import DuramenConversationStore

__all__ = ["DuramenConversationStore"]
