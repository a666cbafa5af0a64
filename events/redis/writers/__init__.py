"""Writers send batches of appends until their outcome is known: to one server, or to the nodes of a cluster."""

from __future__ import annotations

from .cluster_writer import ClusterWriter
from .writer import RedisWriter

__all__ = ["ClusterWriter", "RedisWriter"]
