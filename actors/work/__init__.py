"""Work that survives: durable handlers, their steps, and what they wait for."""

from __future__ import annotations

from .agent_work import AgentWork, WorkingAgent, parked_error, read_end
from .awaits import DurableAwaits
from .finder import WorkFinder
from .loop import DurableLoop, Pending, WorkCancelled
from .messages import INTERNAL, Awaited, Continue, Note, Rerun, TakeUp
from .step import Retry, refuse_in_step

__all__ = [
    "INTERNAL",
    "AgentWork",
    "Awaited",
    "Continue",
    "DurableAwaits",
    "DurableLoop",
    "Note",
    "Pending",
    "Rerun",
    "Retry",
    "TakeUp",
    "WorkCancelled",
    "WorkFinder",
    "WorkingAgent",
    "parked_error",
    "read_end",
    "refuse_in_step",
]
