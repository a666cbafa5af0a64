"""What callers hold: the system, its agents' handles, their past and their episodes."""

from __future__ import annotations

from .episode_store import EpisodeStore
from .handles import AgentHandle, AsyncAgentHandle
from .opening import DATA_DIR
from .system import AgentSystem

__all__ = ["DATA_DIR", "AgentHandle", "AgentSystem", "AsyncAgentHandle", "EpisodeStore"]
