"""Agents as actors: send them messages, pause, resume and end them; the log has what they did."""

from __future__ import annotations

from duramen.events import Receipt

from .agent import Agent
from .handle import AgentHandle
from .hooks import LifecycleHooks
from .messages import (
    Append,
    Batch,
    Delete,
    Get,
    GetStatus,
    Keys,
    ListCheckpoints,
    Merge,
    Pause,
    Record,
    Restart,
    Resume,
    Set,
    SetGranularity,
    SetRetention,
    Spawn,
    Terminate,
)
from .reply import Reply
from .results import AgentStatus, Checkpoint, LifecycleEvent, LifecycleResult, Outcome
from .retention import Retention, TrimResult
from .services import Settings
from .supervision import Strategy, Supervision
from .system import AgentSystem

__all__ = [
    "Agent",
    "AgentHandle",
    "AgentStatus",
    "AgentSystem",
    "Append",
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
    "Terminate",
    "TrimResult",
]
