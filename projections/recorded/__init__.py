"""Recorded logs: written to a file once, folded again by every later version of the code, and compared."""

from __future__ import annotations

from .as_code import Row, items_of, log_of, rows_of
from .check_logs import check_logs
from .portrait import portrait, same
from .pytest_writer import as_test
from .recorded_state import part_of, view_after, view_of
from .recording import RecordedLog, load_log, record_log, recorded, save_log
from .replay_check import Difference, ReplayReport, check_replay, recorded_in, smaller
from .sealing import read_items, store_items
from .shrinking import shrink_items
from .stored_log import StoredLog
from .workers import sound_logs

__all__ = [
    "Difference",
    "RecordedLog",
    "ReplayReport",
    "Row",
    "StoredLog",
    "as_test",
    "check_logs",
    "check_replay",
    "items_of",
    "load_log",
    "log_of",
    "part_of",
    "portrait",
    "read_items",
    "record_log",
    "recorded",
    "recorded_in",
    "rows_of",
    "same",
    "save_log",
    "shrink_items",
    "smaller",
    "sound_logs",
    "store_items",
    "view_after",
    "view_of",
]
