"""Strands on duramen: a repository whose sessions are agents. Extra: `duramen[strands]`."""

from __future__ import annotations

from .repository import DuramenSessionRepository

__all__ = ["DuramenSessionRepository"]
