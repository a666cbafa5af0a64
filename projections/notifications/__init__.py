"""Notices that logs have grown, and filters of the events that are wanted."""

from __future__ import annotations

from .event_filter import Category, EventFilter
from .listener import Listener
from .pacing import Pacer
from .shared_listener import ListenerPool, NoticeSource, merge_positions
from .timer_queue import TimerQueue

__all__ = [
    "Category",
    "EventFilter",
    "Listener",
    "ListenerPool",
    "NoticeSource",
    "Pacer",
    "TimerQueue",
    "merge_positions",
]
