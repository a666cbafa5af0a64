"""Handles of one agent: the synchronous calls and their asyncio twins."""

from __future__ import annotations

from .aio import AsyncAgentHandle
from .handle import AgentHandle
from .lifecycle import require_started
from .messages import TIMEOUT
from .reactions import THRICE, HandlerReactor, Reaction, ReactionHandler
from .sender import AskArguments, MessageSender

__all__ = [
    "THRICE",
    "TIMEOUT",
    "AgentHandle",
    "AskArguments",
    "AsyncAgentHandle",
    "HandlerReactor",
    "MessageSender",
    "Reaction",
    "ReactionHandler",
    "require_started",
]
