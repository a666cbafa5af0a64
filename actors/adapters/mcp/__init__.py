"""A server of the Model Context Protocol: agents' memory and past as tools. Extra: `duramen[mcp]`."""

from __future__ import annotations

from .server import make_server

__all__ = ["make_server"]
