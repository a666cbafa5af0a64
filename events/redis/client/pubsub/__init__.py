"""Subscriptions to channels, and the protocol in which a server pushes messages."""

from __future__ import annotations

from .push_parser import ProtocolError, PushParser
from .subscriber import Subscriber

__all__ = ["ProtocolError", "PushParser", "Subscriber"]
