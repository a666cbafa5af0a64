"""How agents come into memory, run there, and leave it."""

from __future__ import annotations

from .activation import Activation
from .activation_queue import ActivationQueue
from .active import Runtime
from .draining import Draining
from .envelopes import INLINE, WAITING_FOR_NOBODY, envelope_of
from .log_reads import answer_from_log, can_read_here, read_in_worker
from .passivation import Passivation
from .rebalancing import Rebalancing

__all__ = [
    "INLINE",
    "WAITING_FOR_NOBODY",
    "Activation",
    "ActivationQueue",
    "Draining",
    "Passivation",
    "Rebalancing",
    "Runtime",
    "answer_from_log",
    "can_read_here",
    "envelope_of",
    "read_in_worker",
]
