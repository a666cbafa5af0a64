"""Windows of feeds, read by a process of its own while this one works on those before them."""

from __future__ import annotations

from .client import Done, HelperGone, PrefetchClient
from .protocol import AT_A_TIME

__all__ = ["AT_A_TIME", "Done", "HelperGone", "PrefetchClient"]
