"""Events of many agents in commit order."""

from __future__ import annotations

from .batched_fetch import fetch_round
from .event_batch import Fact, Facts
from .last_digests import LastDigests
from .notice_batches import complete
from .reader import FeedReader
from .unconfirmed import Hearsay, compared
from .window import Window
from .window_plan import Places

__all__ = [
    "Fact",
    "Facts",
    "FeedReader",
    "Hearsay",
    "LastDigests",
    "Places",
    "Window",
    "compared",
    "complete",
    "fetch_round",
]
