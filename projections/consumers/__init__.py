"""Durable consumers."""

from __future__ import annotations

from .registry import ConsumerInfo, Consumers
from .runner import Progress, Runner
from .unread import ConsumerNeeds

__all__ = ["ConsumerInfo", "ConsumerNeeds", "Consumers", "Progress", "Runner"]
