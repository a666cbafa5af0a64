"""Folds over events: the state of an agent, what is kept of it, and how to look at it."""

from __future__ import annotations

from .blame import Blame
from .change import MISSING, Change
from .compare import Changes, Comparison
from .consumers import ConsumerInfo, Consumers
from .episode_index import Found
from .episodes import Episode, Episodes
from .fork import Origin
from .integrity import VerificationProgress, VerificationReport
from .keyed import KeyedProjection, KeyedView
from .past import PastState
from .projection import Projection, fold
from .property_history import PropertyChange
from .replay import Replay
from .runner import Progress, Runner
from .session_export import Session
from .sink import Sink
from .state import AgentState
from .subscriptions import Subscription
from .timeline import Moment, Timeline
from .working_memory import WorkingMemory

__all__ = [
    "MISSING",
    "AgentState",
    "Blame",
    "Change",
    "Changes",
    "Comparison",
    "ConsumerInfo",
    "Consumers",
    "Episode",
    "Episodes",
    "Found",
    "KeyedProjection",
    "KeyedView",
    "Moment",
    "Origin",
    "PastState",
    "Progress",
    "Projection",
    "PropertyChange",
    "Replay",
    "Runner",
    "Session",
    "Sink",
    "Subscription",
    "Timeline",
    "VerificationProgress",
    "VerificationReport",
    "WorkingMemory",
    "fold",
]
