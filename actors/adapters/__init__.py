"""Adapters: duramen behind the interfaces of other frameworks. Each is an extra, and imports its framework itself."""

from __future__ import annotations

__all__: list[str] = []
