"""Windows of feeds, read by a process of its own while this one works on those before them."""

from __future__ import annotations

__all__: list[str] = []
