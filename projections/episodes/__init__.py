"""Long-term memory."""

from __future__ import annotations

from .episode import Episode, Episodes, compose_episode
from .facets import Selection
from .feed import EpisodeFeed
from .index import EpisodeIndex, Found
from .store import EpisodeKeeper

__all__ = [
    "Episode",
    "EpisodeFeed",
    "EpisodeIndex",
    "EpisodeKeeper",
    "Episodes",
    "Found",
    "Selection",
    "compose_episode",
]
