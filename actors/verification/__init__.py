"""The verification kit for agents: their `apply`, and generated runs with crashes, pauses and other processes.

Needs hypothesis, like `duramen.projections.verification`, which has the strategies and laws.
"""

from __future__ import annotations

from duramen.projections.verification import LawBroken, Report

from .agent_fold import agent_fold, agent_subject
from .checking import check, check_agent, check_machine, verified
from .commands import commands, lifecycle_messages, operations
from .interruption import check_interruptions
from .machine import AgentMachine, agent_machine

__all__ = [
    "AgentMachine",
    "LawBroken",
    "Report",
    "agent_fold",
    "agent_machine",
    "agent_subject",
    "check",
    "check_agent",
    "check_interruptions",
    "check_machine",
    "commands",
    "lifecycle_messages",
    "operations",
    "verified",
]
