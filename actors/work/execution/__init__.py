"""One run of a durable handler: its event loop, what it awaits, its steps, and its replay from the log."""

from __future__ import annotations

from .awaits import DurableAwaits, accept_of, begin_in_background, current_execution
from .execution import CANCELLED, EXPIRED, START, TOO_LATE, Execution, WorkCall, pack_reply
from .loop import DurableLoop, Pending, WorkCancelled
from .past_turn import PastAgent, PastTurn
from .record import Record, Stretch, read_record
from .replay import WorkingAgent, new_execution, replay
from .step import (
    INTERRUPTED,
    Begun,
    Outcome,
    Retry,
    StepRunner,
    check_result,
    failure,
    find_refusal,
    may_retry,
    pack_storable,
    refuse_in_step,
)
from .stretch import run_stretch

__all__ = [
    "CANCELLED",
    "EXPIRED",
    "INTERRUPTED",
    "START",
    "TOO_LATE",
    "Begun",
    "DurableAwaits",
    "DurableLoop",
    "Execution",
    "Outcome",
    "PastAgent",
    "PastTurn",
    "Pending",
    "Record",
    "Retry",
    "StepRunner",
    "Stretch",
    "WorkCall",
    "WorkCancelled",
    "WorkingAgent",
    "accept_of",
    "begin_in_background",
    "check_result",
    "current_execution",
    "failure",
    "find_refusal",
    "may_retry",
    "new_execution",
    "pack_reply",
    "pack_storable",
    "read_record",
    "refuse_in_step",
    "replay",
    "run_stretch",
]
