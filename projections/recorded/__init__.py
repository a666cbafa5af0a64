"""Logs kept in files: written once, folded again by every later version of the code, and compared."""

from __future__ import annotations

from .as_test import as_test
from .check_logs import check_logs
from .crew import sound_logs
from .portrait import portrait, same
from .recording import RecordedLog, load_log, record_log, recorded, save_log
from .replay_check import Difference, ReplayReport, check_replay, recorded_in, smaller
from .rows import log_of
from .sealing import read_items
from .shrink import shrink_items
from .stored_log import StoredLog
from .view import part_of, view_after, view_of

__all__ = [
    "Difference",
    "RecordedLog",
    "ReplayReport",
    "StoredLog",
    "as_test",
    "check_logs",
    "check_replay",
    "load_log",
    "log_of",
    "part_of",
    "portrait",
    "read_items",
    "record_log",
    "recorded",
    "recorded_in",
    "same",
    "save_log",
    "shrink_items",
    "smaller",
    "sound_logs",
    "view_after",
    "view_of",
]
