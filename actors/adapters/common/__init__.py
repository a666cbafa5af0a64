"""What the adapters share: names for ids, work run blocking and on an event loop, lists of texts in an agent."""

from __future__ import annotations

from .names import id_of, name_of
from .parts import Leaf, join_parts, merges_of
from .steps import Ask, Either, Steps, run, run_async, settle
from .texts import GONE, Entry, TextList, json_of

__all__ = [
    "GONE",
    "Ask",
    "Either",
    "Entry",
    "Leaf",
    "Steps",
    "TextList",
    "id_of",
    "join_parts",
    "json_of",
    "merges_of",
    "name_of",
    "run",
    "run_async",
    "settle",
]
