"""Links carry rows between hosts: numbered streams of authenticated frames over the channels of the store."""

from __future__ import annotations

from .links import Deliver, Links, Row

__all__ = ["Deliver", "Links", "Row"]
