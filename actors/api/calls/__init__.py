"""The calls of a system, by what they are for: reading, following, the past, work that goes on."""

from __future__ import annotations

from .following import Following
from .history import History
from .system_calls import SystemCalls
from .work import Work

__all__ = ["Following", "History", "SystemCalls", "Work"]
