"""State from a log: a snapshot, then replay."""

from __future__ import annotations

from .agent_log import SETTERS_SCHEMA, AgentLog, LoadedAgentLog
from .fold_cache import FoldCache
from .keyframes import EVERY, KeyframeSchedule, keep_keyframes, snapshot_of, state_before, stored_before
from .log_names import LogNames, find_agent
from .orphans import drop_orphans
from .points import Point, last_before, seq_of, seq_of_time, within
from .rebuild import rebuild, rebuild_at_head, rebuild_base, state_for_base
from .session_count import SessionCount, count_session
from .session_totals import SessionTotals, is_plain_dict
from .state_fold import MISFITS, CustomFold, FoldOf, Rebuilt, StateFold, misfit
from .trim_base import UNFOLDED, BaseState, load_base, pack_base

__all__ = [
    "EVERY",
    "MISFITS",
    "SETTERS_SCHEMA",
    "UNFOLDED",
    "AgentLog",
    "BaseState",
    "CustomFold",
    "FoldCache",
    "FoldOf",
    "KeyframeSchedule",
    "LoadedAgentLog",
    "LogNames",
    "Point",
    "Rebuilt",
    "SessionCount",
    "SessionTotals",
    "StateFold",
    "count_session",
    "drop_orphans",
    "find_agent",
    "is_plain_dict",
    "keep_keyframes",
    "last_before",
    "load_base",
    "misfit",
    "pack_base",
    "rebuild",
    "rebuild_at_head",
    "rebuild_base",
    "seq_of",
    "seq_of_time",
    "snapshot_of",
    "state_before",
    "state_for_base",
    "stored_before",
    "within",
]
