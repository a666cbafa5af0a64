"""The handlers of lifecycle messages, alone and in trees of agents."""

from __future__ import annotations

from .lifecycle import (
    BLOCKING_HANDLERS,
    LIFECYCLE,
    MAY_BLOCK,
    QUICK_HANDLERS,
    announce_child,
    check_spawn,
    pause_self,
    terminate_self,
)
from .transition import Transition, reply_to, with_duration

__all__ = [
    "BLOCKING_HANDLERS",
    "LIFECYCLE",
    "MAY_BLOCK",
    "QUICK_HANDLERS",
    "Transition",
    "announce_child",
    "check_spawn",
    "pause_self",
    "reply_to",
    "terminate_self",
    "with_duration",
]
