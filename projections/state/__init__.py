"""The state of an agent, and the events that change it. Pure."""

from __future__ import annotations

from .agent_state import (
    ABSENT,
    FAILED_STATUS,
    PAUSED_STATUS,
    RUNNING,
    SCHEMA,
    TERMINATED_STATUS,
    AgentState,
    message_type_of,
)
from .changed_paths import DEEP, EXACT, MERGED, SHALLOW, ChangedPath
from .difference import difference, overlay
from .event_types import OWN_EVENT_TYPES, OwnEventType, advance, changed_paths, replace_scalars
from .missing import MISSING, REQUIRED, Missing
from .operations import Op, apply_ops, split_ops
from .read_only import ReadOnlyDict, ReadOnlyList, read_only
from .reminders import Reminder, next_reminder, reminders
from .tree import copy_tree, find, lookup
from .undo import CONTAINERS, Undo, roll_back
from .work import (
    ASK,
    NEVER,
    SLEEP,
    STEP,
    WAIT,
    Item,
    Piece,
    cancels_to_send,
    due_of_agent,
    due_of_work,
    end_of_work,
    expiry_of,
    find_wait,
    has_expired,
    is_of_log,
    kept_answers,
    name_log,
    open_work,
)
from .working_memory import WorkingMemory

__all__ = [
    "ABSENT",
    "ASK",
    "CONTAINERS",
    "DEEP",
    "EXACT",
    "FAILED_STATUS",
    "MERGED",
    "MISSING",
    "NEVER",
    "OWN_EVENT_TYPES",
    "PAUSED_STATUS",
    "REQUIRED",
    "RUNNING",
    "SCHEMA",
    "SHALLOW",
    "SLEEP",
    "STEP",
    "TERMINATED_STATUS",
    "WAIT",
    "AgentState",
    "ChangedPath",
    "Item",
    "Missing",
    "Op",
    "OwnEventType",
    "Piece",
    "ReadOnlyDict",
    "ReadOnlyList",
    "Reminder",
    "Undo",
    "WorkingMemory",
    "advance",
    "apply_ops",
    "cancels_to_send",
    "changed_paths",
    "copy_tree",
    "difference",
    "due_of_agent",
    "due_of_work",
    "end_of_work",
    "expiry_of",
    "find",
    "find_wait",
    "has_expired",
    "is_of_log",
    "kept_answers",
    "lookup",
    "message_type_of",
    "name_log",
    "next_reminder",
    "open_work",
    "overlay",
    "read_only",
    "reminders",
    "replace_scalars",
    "roll_back",
    "split_ops",
]
