"""The log on a Redis or Valkey server."""

from __future__ import annotations

from .feed import RedisFeed
from .log import RedisLog

__all__ = ["RedisFeed", "RedisLog"]
