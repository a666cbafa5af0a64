"""The programming interface: the system, the handles of agents, their history and their episodes."""

from __future__ import annotations

from .episode_store import EpisodeStore
from .handles import AgentHandle, AsyncAgentHandle, Reaction
from .load import SystemLoad
from .opening import DATA_DIR
from .outputs import OutputFollower, server_sent_events
from .system import AgentSystem

__all__ = [
    "DATA_DIR",
    "AgentHandle",
    "AgentSystem",
    "AsyncAgentHandle",
    "EpisodeStore",
    "OutputFollower",
    "Reaction",
    "SystemLoad",
    "server_sent_events",
]
