"""Windows of feeds, read by a helper process while this one works on those before them."""

from __future__ import annotations

from ..helper_process import HelperGone
from .client import Done, PrefetchClient
from .protocol import AT_A_TIME

__all__ = ["AT_A_TIME", "Done", "HelperGone", "PrefetchClient"]
