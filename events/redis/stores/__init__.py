"""What a server stores beside logs: consumers' views, hosts and owners, caches, live output."""

from __future__ import annotations

from .consumer_store import RedisConsumerStore
from .content_cache import RedisCache
from .content_store import RedisContentStore
from .directory import LineScan
from .host_store import RedisHostStore
from .output_store import RedisOutputStore

__all__ = ["LineScan", "RedisCache", "RedisConsumerStore", "RedisContentStore", "RedisHostStore", "RedisOutputStore"]
