"""A server of the Model Context Protocol: agents' memory and past as tools. Extra: `duramen[mcp]`."""

from __future__ import annotations

from .event_store import DuramenEventStore
from .server import make_server

__all__ = ["DuramenEventStore", "make_server"]
