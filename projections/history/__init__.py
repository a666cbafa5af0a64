"""The past of agents: replayed, compared, explained by blame, forked."""

from __future__ import annotations

from .blame import Blame, blame, trace
from .causes import Causes
from .comparison import Changes, Comparison, compare
from .fork import Origin, fork_agents, is_origin_available, origin_of
from .past_state import AgentView, PastState
from .property_history import PropertyChange, property_history
from .replay import Replay
from .setters import MOST_WRITES, TracedState, Write, build_traced, traced_base, traced_states, writes_between
from .timeline import Moment, Timeline, headline
from .tree_cut import cut_at_seq, cut_at_time, cut_now

__all__ = [
    "MOST_WRITES",
    "AgentView",
    "Blame",
    "Causes",
    "Changes",
    "Comparison",
    "Moment",
    "Origin",
    "PastState",
    "PropertyChange",
    "Replay",
    "Timeline",
    "TracedState",
    "Write",
    "blame",
    "build_traced",
    "compare",
    "cut_at_seq",
    "cut_at_time",
    "cut_now",
    "fork_agents",
    "headline",
    "is_origin_available",
    "origin_of",
    "property_history",
    "trace",
    "traced_base",
    "traced_states",
    "writes_between",
]
