"""What an event is: types, names, paths and values. Pure."""

from __future__ import annotations

from .causation import OUTSIDE, Cause, Handling, event_id, parse_event_id
from .cursor import START, Cursor, Mark
from .event import Draft, Event, Granularity, NewEvent, Receipt, quick_event
from .limits import Limits
from .paths import AgentPath, PropertyPath, agent_path, property_segments, split_text, unsplit_text
from .pattern_index import PatternIndex
from .patterns import PathPattern
from .registry import DECLARED, EventRegistry, event_type, upcaster
from .values import PlainData, check_value, describe_type, same_value, shown
from .vocabulary import (
    ACTIVITY_RECORDED,
    CHILD_SPAWNED,
    EPISODE_RECORDED,
    FAILED,
    FORKED,
    GRANULARITY_SET,
    MEMORY_APPENDED,
    MEMORY_DELETED,
    MEMORY_MERGED,
    MEMORY_RESTORED,
    MEMORY_SET,
    OWN_TYPES,
    PAUSED,
    RESTARTED,
    RESUMED,
    RETENTION_SET,
    SPAWNED,
    TERMINATED,
)

__all__ = [
    "ACTIVITY_RECORDED",
    "CHILD_SPAWNED",
    "DECLARED",
    "EPISODE_RECORDED",
    "FAILED",
    "FORKED",
    "GRANULARITY_SET",
    "MEMORY_APPENDED",
    "MEMORY_DELETED",
    "MEMORY_MERGED",
    "MEMORY_RESTORED",
    "MEMORY_SET",
    "OUTSIDE",
    "OWN_TYPES",
    "PAUSED",
    "RESTARTED",
    "RESUMED",
    "RETENTION_SET",
    "SPAWNED",
    "START",
    "TERMINATED",
    "AgentPath",
    "Cause",
    "Cursor",
    "Draft",
    "Event",
    "EventRegistry",
    "Granularity",
    "Handling",
    "Limits",
    "Mark",
    "NewEvent",
    "PathPattern",
    "PatternIndex",
    "PlainData",
    "PropertyPath",
    "Receipt",
    "agent_path",
    "check_value",
    "describe_type",
    "event_id",
    "event_type",
    "parse_event_id",
    "property_segments",
    "quick_event",
    "same_value",
    "shown",
    "split_text",
    "unsplit_text",
    "upcaster",
]
