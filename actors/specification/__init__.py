"""The specification kit: unit tests of agents as given events, when a message, then events."""

from __future__ import annotations

from .scripted_work import KIND, RecordedLog, ScriptedWork, StepCall, WorkScript, replace_by
from .specification import NotAsSpecified, Specification, Then, spec

__all__ = [
    "KIND",
    "NotAsSpecified",
    "RecordedLog",
    "ScriptedWork",
    "Specification",
    "StepCall",
    "Then",
    "WorkScript",
    "replace_by",
    "spec",
]
