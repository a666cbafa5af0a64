"""Links carry rows between hosts: numbered streams of authenticated frames over the channels of the store."""

from __future__ import annotations

from .frame import FRAME_BYTES, ROW_BYTES, Frame, FrameCodec, Row
from .link_state import LinkState, Outgoing
from .links import Deliver, Links, Received
from .stream import Window

__all__ = [
    "FRAME_BYTES",
    "ROW_BYTES",
    "Deliver",
    "Frame",
    "FrameCodec",
    "LinkState",
    "Links",
    "Outgoing",
    "Received",
    "Row",
    "Window",
]
