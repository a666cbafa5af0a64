"""The handlers of messages, and the turn in which they run."""

from __future__ import annotations

from .agent_timers import AgentTimers
from .forwarded import MEMORY_HANDLERS
from .handler_call import HandlerCall, current_call
from .hooks import LifecycleHooks
from .lifecycle import (
    BLOCKING_HANDLERS,
    LIFECYCLE,
    QUICK_HANDLERS,
    announce_child,
    pause_self,
    terminate_self,
)
from .memory import apply_operation
from .reads import READS, drop_expired, keys_at
from .services import Services, Settings
from .transition import Transition, reply_to, with_duration
from .turn import ActiveAgent, Savepoint, Turn

__all__ = [
    "BLOCKING_HANDLERS",
    "LIFECYCLE",
    "MEMORY_HANDLERS",
    "QUICK_HANDLERS",
    "READS",
    "ActiveAgent",
    "AgentTimers",
    "HandlerCall",
    "LifecycleHooks",
    "Savepoint",
    "Services",
    "Settings",
    "Transition",
    "Turn",
    "announce_child",
    "apply_operation",
    "current_call",
    "drop_expired",
    "keys_at",
    "pause_self",
    "reply_to",
    "terminate_self",
    "with_duration",
]
