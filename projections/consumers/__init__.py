"""Durable consumers."""

from __future__ import annotations

from .registry import ConsumerInfo, Consumers, host_of, request_erasures
from .runner import Progress, Runner
from .unread import UnreadByConsumers

__all__ = ["ConsumerInfo", "Consumers", "Progress", "Runner", "UnreadByConsumers", "host_of", "request_erasures"]
