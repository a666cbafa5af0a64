"""Printing results, progress and the screen of `replay --step`."""

from __future__ import annotations

from .as_json import to_json
from .changed_values import changes_data, find_changes, find_differences, show_changes
from .event_text import COMPLETION, TOOL_CALL, TOOL_OUTPUT, event_data, event_line
from .output import STYLES, Output, format_time, join_texts, new_table, text
from .printable import clean, shorten
from .progress import Advance, show_progress
from .step_view import StepView
from .terminal import terminal

__all__ = [
    "COMPLETION",
    "STYLES",
    "TOOL_CALL",
    "TOOL_OUTPUT",
    "Advance",
    "Output",
    "StepView",
    "changes_data",
    "clean",
    "event_data",
    "event_line",
    "find_changes",
    "find_differences",
    "format_time",
    "join_texts",
    "new_table",
    "shorten",
    "show_changes",
    "show_progress",
    "terminal",
    "text",
    "to_json",
]
