"""Work that survives: durable handlers, their steps, and what they wait for."""

from __future__ import annotations

from .agent_work import AgentWork, WorkingAgent, parked_error, read_end
from .awaits import DurableAwaits, accept_of, begin_in_background, current_execution
from .checking import check_work
from .execution import WorkCall
from .expiry import expire, expire_if_due
from .finder import WorkFinder
from .loop import DurableLoop, Pending, WorkCancelled
from .messages import INTERNAL, Awaited, Continue, Expire, Note, Remember, Rerun, TakeUp
from .step import Retry, refuse_in_step

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
    "WorkingAgent",
    "accept_of",
    "begin_in_background",
    "check_work",
    "current_execution",
    "expire",
    "expire_if_due",
    "parked_error",
    "read_end",
    "refuse_in_step",
]
