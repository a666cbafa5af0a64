"""Handles of one agent: the synchronous calls and their asyncio twins."""

from __future__ import annotations

from .aio import AsyncAgentHandle
from .calls import TIMEOUT, MessageSender, require_started
from .handle import AgentHandle
from .reactions import THRICE, HandlerReactor, Reaction, ReactionHandler

__all__ = [
    "THRICE",
    "TIMEOUT",
    "AgentHandle",
    "AsyncAgentHandle",
    "HandlerReactor",
    "MessageSender",
    "Reaction",
    "ReactionHandler",
    "require_started",
]
