"""Durable consumers."""

from __future__ import annotations

from .plan import host_of
from .registry import ConsumerInfo, Consumers, request_erasures
from .runner import Progress, Runner
from .unread import UnreadByConsumers

__all__ = ["ConsumerInfo", "Consumers", "Progress", "Runner", "UnreadByConsumers", "host_of", "request_erasures"]
