"""The state of an agent, and the events that change it. Pure."""

from __future__ import annotations

from .agent_state import ABSENT, FAILED_STATUS, PAUSED_STATUS, RUNNING, SCHEMA, TERMINATED_STATUS, AgentState
from .changed_paths import DEEP, EXACT, MERGED, SHALLOW, ChangedPath
from .difference import difference, overlay
from .event_types import OWN_EVENT_TYPES, OwnEventType, advance, changed_paths, replace_scalars
from .missing import MISSING, REQUIRED, Missing
from .operations import Op, apply_ops, split_ops
from .read_only import ReadOnlyDict, ReadOnlyList, read_only
from .tree import copy_tree, find, lookup
from .undo import CONTAINERS, Undo, roll_back
from .working_memory import WorkingMemory

__all__ = [
    "ABSENT",
    "CONTAINERS",
    "DEEP",
    "EXACT",
    "FAILED_STATUS",
    "MERGED",
    "MISSING",
    "OWN_EVENT_TYPES",
    "PAUSED_STATUS",
    "REQUIRED",
    "RUNNING",
    "SCHEMA",
    "SHALLOW",
    "TERMINATED_STATUS",
    "AgentState",
    "ChangedPath",
    "Missing",
    "Op",
    "OwnEventType",
    "ReadOnlyDict",
    "ReadOnlyList",
    "Undo",
    "WorkingMemory",
    "advance",
    "apply_ops",
    "changed_paths",
    "copy_tree",
    "difference",
    "find",
    "lookup",
    "overlay",
    "read_only",
    "replace_scalars",
    "roll_back",
    "split_ops",
]
