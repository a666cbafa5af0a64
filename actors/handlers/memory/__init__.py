"""How an agent handles messages about its working memory: mutations, those of other hosts too, and reads."""

from __future__ import annotations

from .contents import MAY_HOLD_CONTENT, load_contents, store_contents
from .forwarded import MEMORY_HANDLERS, handle_repeated
from .mutations import (
    NeedsWorker,
    accept_work,
    apply_operation,
    checking_answers,
    handle_pop,
    pop_value,
    remove_reminder,
    set_reminder,
)
from .reads import READS, drop_expired, keys_at, length_of, slice_of, values_at
from .stored_reply import read_reply, store_reply

__all__ = [
    "MAY_HOLD_CONTENT",
    "MEMORY_HANDLERS",
    "READS",
    "NeedsWorker",
    "accept_work",
    "apply_operation",
    "checking_answers",
    "drop_expired",
    "handle_pop",
    "handle_repeated",
    "keys_at",
    "length_of",
    "load_contents",
    "pop_value",
    "read_reply",
    "remove_reminder",
    "set_reminder",
    "slice_of",
    "store_contents",
    "store_reply",
    "values_at",
]
