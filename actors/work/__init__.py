"""Work that survives crashes: durable handlers, their steps, and what they wait for."""

from __future__ import annotations

from .agent_work import AgentWork
from .checking import check_work
from .execution import (
    DurableAwaits,
    DurableLoop,
    Pending,
    Retry,
    WorkCall,
    WorkCancelled,
    accept_of,
    begin_in_background,
    current_execution,
    pack_storable,
    refuse_in_step,
)
from .finder import WorkFinder
from .messages import INTERNAL, Awaited, Continue, Expire, Note, Remember, Rerun, TakeUp

__all__ = [
    "INTERNAL",
    "AgentWork",
    "Awaited",
    "Continue",
    "DurableAwaits",
    "DurableLoop",
    "Expire",
    "Note",
    "Pending",
    "Remember",
    "Rerun",
    "Retry",
    "TakeUp",
    "WorkCall",
    "WorkCancelled",
    "WorkFinder",
    "accept_of",
    "begin_in_background",
    "check_work",
    "current_execution",
    "pack_storable",
    "refuse_in_step",
]
