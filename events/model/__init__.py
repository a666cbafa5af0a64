"""Events, their types, paths, values and limits. Pure."""

from __future__ import annotations

from .causation import EXTERNAL, Cause, Handling, event_id, parse_event_id
from .cursor import START, Cursor, Mark
from .event import Event, Granularity, MutableEvent, NewEvent, Receipt, construct_event
from .limits import Limits
from .paths import AgentPath, PropertyPath, agent_path, join_text, property_segments, split_text
from .pattern_index import PatternIndex
from .patterns import PathPattern
from .registry import DECLARED, EventRegistry, event_type, upcaster
from .values import PlainData, check_value, copy_plain, describe_type, printable, same_value
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
    "EXTERNAL",
    "FAILED",
    "FORKED",
    "GRANULARITY_SET",
    "MEMORY_APPENDED",
    "MEMORY_DELETED",
    "MEMORY_MERGED",
    "MEMORY_RESTORED",
    "MEMORY_SET",
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
    "Event",
    "EventRegistry",
    "Granularity",
    "Handling",
    "Limits",
    "Mark",
    "MutableEvent",
    "NewEvent",
    "PathPattern",
    "PatternIndex",
    "PlainData",
    "PropertyPath",
    "Receipt",
    "agent_path",
    "check_value",
    "construct_event",
    "copy_plain",
    "describe_type",
    "event_id",
    "event_type",
    "join_text",
    "parse_event_id",
    "printable",
    "property_segments",
    "same_value",
    "split_text",
    "upcaster",
]
