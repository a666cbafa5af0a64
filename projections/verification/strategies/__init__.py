"""Hypothesis strategies for values, paths, events and logs."""

from __future__ import annotations

from .events import OwnFields, Types, events, instances
from .fields import fields_of
from .log_author import AGENT, Author, is_whole
from .logs import logs, stored_logs
from .paths import NAMES, agent_paths, paths, property_paths
from .values import near_values, values

__all__ = [
    "AGENT",
    "NAMES",
    "Author",
    "OwnFields",
    "Types",
    "agent_paths",
    "events",
    "fields_of",
    "instances",
    "is_whole",
    "logs",
    "near_values",
    "paths",
    "property_paths",
    "stored_logs",
    "values",
]
