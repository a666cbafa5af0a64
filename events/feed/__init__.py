"""Events of many agents in commit order."""

from __future__ import annotations

from .batched_fetch import confirm_marks, fetch_together
from .end_marks import end_marks
from .event_batch import EventBatch, FeedEvent
from .last_digests import LastDigests
from .notice_batches import complete_batches
from .reader import FeedReader
from .unconfirmed import UnconfirmedEvents, confirm_with_log
from .window import Window, is_erased
from .window_loader import WindowLoader
from .window_plan import Places

__all__ = [
    "EventBatch",
    "FeedEvent",
    "FeedReader",
    "LastDigests",
    "Places",
    "UnconfirmedEvents",
    "Window",
    "WindowLoader",
    "complete_batches",
    "confirm_marks",
    "confirm_with_log",
    "end_marks",
    "fetch_together",
    "is_erased",
]
