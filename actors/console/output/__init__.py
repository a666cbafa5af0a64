"""Printing results, progress and the screen of `replay --step`."""

from __future__ import annotations

from .as_json import to_json
from .changed_values import change_line, changes_data, find_changes, find_differences, shorten_value, show_changes
from .event_text import COMPLETION, TOOL_CALL, TOOL_OUTPUT, event_data, event_line, event_lines
from .output import STYLES, Output, format_time, join_texts, text
from .printable import clean, natural_key, shorten, write_note
from .progress import Advance, show_progress
from .step_view import StepView
from .table import Table
from .terminal import terminal

__all__ = [
    "COMPLETION",
    "STYLES",
    "TOOL_CALL",
    "TOOL_OUTPUT",
    "Advance",
    "Output",
    "StepView",
    "Table",
    "change_line",
    "changes_data",
    "clean",
    "event_data",
    "event_line",
    "event_lines",
    "find_changes",
    "find_differences",
    "format_time",
    "join_texts",
    "natural_key",
    "shorten",
    "shorten_value",
    "show_changes",
    "show_progress",
    "terminal",
    "text",
    "to_json",
    "write_note",
]
