"""Folds over events: the state of an agent, what is kept of it, and how to look at it."""

from __future__ import annotations

from .episodes import Episode, Episodes
from .projection import Projection, fold
from .state import AgentState
from .timeline import Moment, Timeline
from .working_memory import WorkingMemory

__all__ = ["AgentState", "Episode", "Episodes", "Moment", "Projection", "Timeline", "WorkingMemory", "fold"]
