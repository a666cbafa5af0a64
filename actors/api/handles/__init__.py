"""Handles of one agent: the synchronous calls and their asyncio twins."""

from __future__ import annotations

from .aio import AsyncAgentHandle
from .calls import TIMEOUT, MessageSender, require_started
from .handle import AgentHandle

__all__ = ["TIMEOUT", "AgentHandle", "AsyncAgentHandle", "MessageSender", "require_started"]
