"""What the command prints."""

from __future__ import annotations

from .as_json import to_json
from .changed_values import changed_by, changes_data, differing, show_changes
from .event_text import event_data, event_line
from .output import STYLES, Output, columns, joined, local_time, text
from .printable import clean, shorten
from .progress import Advance, counting
from .step_view import StepView
from .terminal import Terminal, terminal

__all__ = [
    "STYLES",
    "Advance",
    "Output",
    "StepView",
    "Terminal",
    "changed_by",
    "changes_data",
    "clean",
    "columns",
    "counting",
    "differing",
    "event_data",
    "event_line",
    "joined",
    "local_time",
    "shorten",
    "show_changes",
    "terminal",
    "text",
    "to_json",
]
