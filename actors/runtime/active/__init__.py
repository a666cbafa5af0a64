"""An agent in memory: it handles messages in turns, commits them, and leaves."""

from __future__ import annotations

from .runtime import Runtime

__all__ = ["Runtime"]
