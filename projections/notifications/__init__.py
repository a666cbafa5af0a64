"""Hearing that logs have grown."""

from __future__ import annotations

from .channels import Channels
from .event_filter import Category, Interest, Scope, interest_in, partitions_of, scope_of
from .pacing import Rest
from .shared_listener import Ear, Ears, together
from .timer_queue import Alarms

__all__ = [
    "Alarms",
    "Category",
    "Channels",
    "Ear",
    "Ears",
    "Interest",
    "Rest",
    "Scope",
    "interest_in",
    "partitions_of",
    "scope_of",
    "together",
]
