"""Hearing that logs have grown."""

from __future__ import annotations

from .channels import Channels
from .event_filter import Category, EventFilter, Scope, event_filter_of, partitions_of, scope_of
from .pacing import Pacer
from .shared_listener import ListenerPool, NoticeSource, together
from .timer_queue import TimerQueue

__all__ = [
    "Category",
    "Channels",
    "EventFilter",
    "ListenerPool",
    "NoticeSource",
    "Pacer",
    "Scope",
    "TimerQueue",
    "event_filter_of",
    "partitions_of",
    "scope_of",
    "together",
]
