"""Durable consumers."""

from __future__ import annotations

from .plan import STANDBY, host_of
from .registry import ConsumerInfo, Consumers, request_erasures
from .runner import Progress, Runner
from .unread import UnreadByConsumers

__all__ = [
    "STANDBY",
    "ConsumerInfo",
    "Consumers",
    "Progress",
    "Runner",
    "UnreadByConsumers",
    "host_of",
    "request_erasures",
]
