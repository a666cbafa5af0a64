"""How an agent handles messages about its working memory: mutations, those of other hosts too, and reads."""

from __future__ import annotations

from .contents import load_contents, replace_contents, restore_contents, store_contents, storing
from .forwarded import MEMORY_HANDLERS, handle_repeated
from .mutations import (
    accept_work,
    apply_operation,
    checking_answers,
    handle_pop,
    pop_value,
    remove_reminder,
    set_reminder,
)
from .reads import READS, drop_expired, keys_at, length_of, slice_of, values_at, with_paths
from .stored_reply import read_reply, store_reply

__all__ = [
    "MEMORY_HANDLERS",
    "READS",
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
    "replace_contents",
    "restore_contents",
    "set_reminder",
    "slice_of",
    "store_contents",
    "store_reply",
    "storing",
    "values_at",
    "with_paths",
]
