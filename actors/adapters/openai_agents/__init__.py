"""OpenAI's Agents SDK on duramen: a session whose items are in an agent's log. Extra: `duramen[openai-agents]`."""

from __future__ import annotations

from .session import DuramenSession

__all__ = ["DuramenSession"]
