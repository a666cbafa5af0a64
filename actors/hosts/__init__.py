"""Processes that share agents: the hosts there are, which agents each has, and the links between them."""

from __future__ import annotations

from .forwarded import Forwarded, Repeated
from .hosting import Hosting, Placement, is_better
from .lease import BEAT_SECONDS, BEAT_WAIT_SECONDS, LEASE_SECONDS, SUSPENDED_SECONDS, LeaseJudge
from .links import Links
from .membership import PROTOCOL, HostEvents, HostStatus, Membership, boot_time
from .process_identity import Machine, has_ended, this_process
from .router import NotMine, RemoteEnvelope, Route, Router
from .trees import Trees

__all__ = [
    "BEAT_SECONDS",
    "BEAT_WAIT_SECONDS",
    "LEASE_SECONDS",
    "PROTOCOL",
    "SUSPENDED_SECONDS",
    "Forwarded",
    "HostEvents",
    "HostStatus",
    "Hosting",
    "LeaseJudge",
    "Links",
    "Machine",
    "Membership",
    "NotMine",
    "Placement",
    "RemoteEnvelope",
    "Repeated",
    "Route",
    "Router",
    "Trees",
    "boot_time",
    "has_ended",
    "is_better",
    "this_process",
]
