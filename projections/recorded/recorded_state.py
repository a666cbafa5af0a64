"""The part of an agent's state that a recorded log keeps, which every later version of the code must reproduce."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from duramen.events import Event
from duramen.events.model import same_value

from ..projection import fold
from ..state import AgentState, WorkingMemory, copy_tree

_NONE: Final[Any] = object()


def view_of(state: AgentState) -> dict[str, Any]:
    """The view of a state: working memory and the session's status, as a copy in plain data.

    It has only what users know, under names that never change; a later version may add fields to its states.
    """
    return {
        "status": state.status,
        "session_id": state.session_id,
        "agent_type": state.agent_type,
        "granularity": int(state.granularity),
        "levels": dict(state.levels),
        "paused_at": state.paused_at,
        "children": dict(state.children),
        "checkpoints": list(state.checkpoints),
        "memory": copy_tree(state.memory),
    }


def view_after(events: Iterable[Event]) -> dict[str, Any]:
    """The view that today's code folds one agent's events to."""
    return view_of(fold(WorkingMemory(), events))


def part_of(view: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The named parts of a view that exist: `status`, or `memory/plan` for an item of working memory."""
    items = {f"memory/{name}": value for name, value in view["memory"].items()}
    return {name: value for name, value in {**view, **items}.items() if name in names}


def list_differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The names, as `part_of` takes them, of the parts in which two views differ."""
    names = [name for name in a if name != "memory" and not same_value(a[name], b[name])]
    old, new = a["memory"], b["memory"]
    items = [name for name in {**old, **new} if not same_value(old.get(name, _NONE), new.get(name, _NONE))]
    return [*names, *(f"memory/{name}" for name in items)]
