"""Processes that share agents: the hosts there are, and the links between them."""

from __future__ import annotations

from .lease import BEAT_SECONDS, LEASE_SECONDS, SUSPENDED_SECONDS, LeaseJudge
from .membership import PROTOCOL, HostEvents, HostStatus, Membership, boot_time
from .process_identity import Machine, has_ended, this_process

__all__ = [
    "BEAT_SECONDS",
    "LEASE_SECONDS",
    "PROTOCOL",
    "SUSPENDED_SECONDS",
    "HostEvents",
    "HostStatus",
    "LeaseJudge",
    "Machine",
    "Membership",
    "boot_time",
    "has_ended",
    "this_process",
]
