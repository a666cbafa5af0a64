"""What the page shows of one agent's log: windows to step through, the timeline, the conversation, values as JSON."""

from __future__ import annotations

from .conversation import ConversationRecord, conversation
from .encoding import Room, as_dict, encode_plain, to_bytes
from .log_index import LogIndex, LogIndexes, is_failure
from .long_values import long_value_at, long_value_of
from .timeline import timeline
from .windows import MOST_CAUSES, brief_data, event_at, event_row, level_at, traced_at, window
from .work_record import read_work

__all__ = [
    "MOST_CAUSES",
    "ConversationRecord",
    "LogIndex",
    "LogIndexes",
    "Room",
    "as_dict",
    "brief_data",
    "conversation",
    "encode_plain",
    "event_at",
    "event_row",
    "is_failure",
    "level_at",
    "long_value_at",
    "long_value_of",
    "read_work",
    "timeline",
    "to_bytes",
    "traced_at",
    "window",
]
