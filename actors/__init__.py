"""Agents as actors: send them messages, pause, resume and end them; the log has what they did."""

from __future__ import annotations

from duramen.events import Receipt

from .agent import Agent
from .api import AgentHandle, AgentSystem, AsyncAgentHandle, SystemLoad
from .commands import (
    AgentStatus,
    Append,
    Batch,
    Checkpoint,
    Delete,
    Get,
    GetStatus,
    Keys,
    LifecycleEvent,
    LifecycleResult,
    ListCheckpoints,
    Merge,
    Outcome,
    Pause,
    Record,
    Restart,
    Resume,
    Retention,
    Set,
    SetGranularity,
    SetRetention,
    Spawn,
    Strategy,
    Supervision,
    Terminate,
    TrimResult,
)
from .dispatch import Reply
from .handlers import LifecycleHooks, Settings

__all__ = [
    "Agent",
    "AgentHandle",
    "AgentStatus",
    "AgentSystem",
    "Append",
    "AsyncAgentHandle",
    "Batch",
    "Checkpoint",
    "Delete",
    "Get",
    "GetStatus",
    "Keys",
    "LifecycleEvent",
    "LifecycleHooks",
    "LifecycleResult",
    "ListCheckpoints",
    "Merge",
    "Outcome",
    "Pause",
    "Receipt",
    "Record",
    "Reply",
    "Restart",
    "Resume",
    "Retention",
    "Set",
    "SetGranularity",
    "SetRetention",
    "Settings",
    "Spawn",
    "Strategy",
    "Supervision",
    "SystemLoad",
    "Terminate",
    "TrimResult",
]
