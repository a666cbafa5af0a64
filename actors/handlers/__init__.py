"""The handlers of messages, and the turn in which they run."""

from __future__ import annotations

from .agent_timers import AgentTimers
from .hooks import LifecycleHooks
from .lifecycle import BLOCKING_HANDLERS, LIFECYCLE, QUICK_HANDLERS
from .memory import MEMORY_HANDLERS, apply_operation
from .services import Services, Settings
from .transition import Transition, reply_to, with_duration
from .turn import ActiveAgent, Turn

__all__ = [
    "BLOCKING_HANDLERS",
    "LIFECYCLE",
    "MEMORY_HANDLERS",
    "QUICK_HANDLERS",
    "ActiveAgent",
    "AgentTimers",
    "LifecycleHooks",
    "Services",
    "Settings",
    "Transition",
    "Turn",
    "apply_operation",
    "reply_to",
    "with_duration",
]
