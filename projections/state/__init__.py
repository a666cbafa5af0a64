"""An agent's state, and how each event changes it. Pure."""

from __future__ import annotations

from .agent_state import ABSENT, FAILED_STATUS, PAUSED_STATUS, RUNNING, SCHEMA, TERMINATED_STATUS, AgentState, advance
from .changed_paths import BELOW, BESIDE, HERE, Touch, touches
from .difference import difference, overlay
from .missing import MISSING, REQUIRED, Missing
from .operations import Op, apply_ops, split_ops
from .read_only import ReadOnlyDict, ReadOnlyList, read_only
from .tree import copy_tree, lookup
from .undo import CONTAINERS, Undo, roll_back
from .working_memory import WorkingMemory

__all__ = [
    "ABSENT",
    "BELOW",
    "BESIDE",
    "CONTAINERS",
    "FAILED_STATUS",
    "HERE",
    "MISSING",
    "PAUSED_STATUS",
    "REQUIRED",
    "RUNNING",
    "SCHEMA",
    "TERMINATED_STATUS",
    "AgentState",
    "Missing",
    "Op",
    "ReadOnlyDict",
    "ReadOnlyList",
    "Touch",
    "Undo",
    "WorkingMemory",
    "advance",
    "apply_ops",
    "copy_tree",
    "difference",
    "lookup",
    "overlay",
    "read_only",
    "roll_back",
    "split_ops",
    "touches",
]
