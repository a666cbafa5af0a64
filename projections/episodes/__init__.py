"""Long-term memory."""

from __future__ import annotations

from .episode import Episode, Episodes, compose_episode
from .facets import EpisodeFilter
from .feed import EpisodeFeed
from .index import EpisodeIndex, Found
from .store import EpisodeWriter

__all__ = [
    "Episode",
    "EpisodeFeed",
    "EpisodeFilter",
    "EpisodeIndex",
    "EpisodeWriter",
    "Episodes",
    "Found",
    "compose_episode",
]
