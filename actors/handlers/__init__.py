"""The handlers of messages, and the turn in which they run."""

from __future__ import annotations

from .agent_timers import AgentTimers, TimerStart
from .agent_types import AgentCode, AgentFactory, folds_of
from .handler_call import HandlerCall, current_call
from .hooks import LifecycleHooks, run_hooks
from .lifecycle import (
    BLOCKING_HANDLERS,
    LIFECYCLE,
    MAY_BLOCK,
    QUICK_HANDLERS,
    Transition,
    announce_child,
    check_spawn,
    pause_self,
    reply_to,
    terminate_self,
    with_duration,
)
from .memory import (
    MEMORY_HANDLERS,
    READS,
    accept_work,
    apply_operation,
    checking_answers,
    drop_expired,
    keys_at,
    length_of,
    load_contents,
    pop_value,
    read_reply,
    remove_reminder,
    restore_contents,
    set_reminder,
    slice_of,
    store_contents,
    store_reply,
    storing,
    values_at,
)
from .output_writer import OutputSender, OutputWriter
from .packed_values import emit_packing, is_packed, load_reply, packing_limits, unpack_value
from .services import Services, Settings
from .trimmer import Trimmer
from .turn import ActiveAgent, NeedsWorker, Savepoint, Turn

__all__ = [
    "BLOCKING_HANDLERS",
    "LIFECYCLE",
    "MAY_BLOCK",
    "MEMORY_HANDLERS",
    "QUICK_HANDLERS",
    "READS",
    "ActiveAgent",
    "AgentCode",
    "AgentFactory",
    "AgentTimers",
    "HandlerCall",
    "LifecycleHooks",
    "NeedsWorker",
    "OutputSender",
    "OutputWriter",
    "Savepoint",
    "Services",
    "Settings",
    "TimerStart",
    "Transition",
    "Trimmer",
    "Turn",
    "accept_work",
    "announce_child",
    "apply_operation",
    "check_spawn",
    "checking_answers",
    "current_call",
    "drop_expired",
    "emit_packing",
    "folds_of",
    "is_packed",
    "keys_at",
    "length_of",
    "load_contents",
    "load_reply",
    "packing_limits",
    "pause_self",
    "pop_value",
    "read_reply",
    "remove_reminder",
    "reply_to",
    "restore_contents",
    "run_hooks",
    "set_reminder",
    "slice_of",
    "store_contents",
    "store_reply",
    "storing",
    "terminate_self",
    "unpack_value",
    "values_at",
    "with_duration",
]
