"""Changes as they are committed, for callbacks and iterators."""

from __future__ import annotations

from .change import Change
from .delivery import Delivery, OnError
from .hub import Callback, Hub, HubStatus, Pools
from .subscription import Subscription

__all__ = ["Callback", "Change", "Delivery", "Hub", "HubStatus", "OnError", "Pools", "Subscription"]
