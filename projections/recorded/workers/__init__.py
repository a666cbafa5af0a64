"""Processes that fold recorded logs."""

from __future__ import annotations

from .pool import sound_logs

__all__ = ["sound_logs"]
