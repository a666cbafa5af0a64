"""Changes as they are committed, for callbacks and iterators."""

from __future__ import annotations

from .callbacks import OnError
from .change import Change
from .hub import Callback, Hub, HubStatus, Pools
from .subscription import Subscription

__all__ = ["Callback", "Change", "Hub", "HubStatus", "OnError", "Pools", "Subscription"]
