"""Commands that read agents from files, or write them to one."""

from __future__ import annotations

from .run import RUN
from .sessions import EXPORT, IMPORT

__all__ = ["EXPORT", "IMPORT", "RUN"]
