"""Live output: what agents are saying, followed from anywhere while it is written."""

from __future__ import annotations

from .calls import OutputCalls
from .follower import OutputFollower
from .server_sent import server_sent_events
from .tails import OutputTails

__all__ = ["OutputCalls", "OutputFollower", "OutputTails", "server_sent_events"]
