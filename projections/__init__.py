"""Folds over events: the state of an agent, what is kept of it, and how to look at it."""

from __future__ import annotations

from .consumers import ConsumerInfo, Consumers, Progress, Runner
from .episodes import Episode, Episodes, Found
from .history import AgentView, Blame, Changes, Comparison, Moment, Origin, PastState, PropertyChange, Replay, Timeline
from .integrity import VerificationProgress, VerificationReport
from .projection import KeyedProjection, KeyedView, Projection, Sink, fold
from .sessions import Session
from .state import MISSING, AgentState, WorkingMemory
from .subscriptions import Change, Subscription

__all__ = [
    "MISSING",
    "AgentState",
    "AgentView",
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
