"""Processes that fold recorded logs."""

from __future__ import annotations

from .fold_server import receive, send
from .pool import sound_logs

__all__ = ["receive", "send", "sound_logs"]
