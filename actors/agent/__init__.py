"""The actor to subclass."""

from __future__ import annotations

from .agent import Agent

__all__ = ["Agent"]
