"""A state of ADK in the working memory of an agent: `{"state": {key: value}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from duramen.actors import Set
from duramen.events import DuramenError, Limits, PropertyPath
from duramen.events.model import check_value

from ..common import Entry, Steps, TextList, json_of

_APART: Final = "~json"
"""The only key of what stands for a value that is kept as JSON: as text, or beside the state where it is large."""
_LIMITS: Final = Limits()


def set_keys(agent: TextList, delta: Mapping[str, Any]) -> Steps[list[Set]]:
    """The operations that give keys of the state their values. What is large is stored now, beside it."""
    operations: list[Set] = []
    for key, value in delta.items():
        stored: Any = value
        text = json_of(value)
        if not _is_plain(value) or len(text) > _LIMITS.event_bytes // 4:
            entries = yield from agent.make_entries([text])
            stored = {_APART: entries[0]}
        operations.append(Set(PropertyPath.of("state", key), stored))
    return operations


def load_values(agent: TextList, stored: Mapping[str, Any] | None) -> Steps[dict[str, Any]]:
    """The values of a state as it is stored."""
    values: dict[str, Any] = {}
    for key, value in (stored or {}).items():
        entry = _entry_of(value)
        if entry is None:
            values[key] = value
        else:
            text = yield from agent.load(entry)
            values[key] = None if text is None else json.loads(text)
    return values


def _entry_of(value: Any) -> Entry | None:
    return cast("dict[str, Any]", value)[_APART] if isinstance(value, dict) and _APART in value else None


def _is_plain(value: Any) -> bool:
    """Whether a value is stored as it is."""
    if _entry_of(value) is not None:
        return False
    try:
        check_value(value, _LIMITS, "")
    except DuramenError:
        return False
    return True
