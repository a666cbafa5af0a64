"""One HTML file that shows agents as the inspector does: its page, and the answers that the page would ask for."""

from __future__ import annotations

from .static_page import write_static_page

__all__ = ["write_static_page"]
