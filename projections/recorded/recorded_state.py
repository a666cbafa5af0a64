"""What is kept of an agent's state beside a recorded log: what every later version of the code must come to again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from duramen.events import Event
from duramen.events.model import same_value

from ..projection import fold
from ..state import AgentState, WorkingMemory, copy_tree

__all__ = ["differing", "part_of", "view_after", "view_of"]

_NONE: Final[Any] = object()


def view_of(state: AgentState) -> dict[str, Any]:
    """Working memory, and where the session stands: plain data, a copy.

    Only what has a meaning to users, by names that are for ever; a later version may keep more in its states.
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
    """The view that today's code makes of one agent's events."""
    return view_of(fold(WorkingMemory(), events))


def part_of(view: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """What is called so in a view: `status`, or `memory/plan` for an item of working memory; only what is there."""
    items = {f"memory/{name}": value for name, value in view["memory"].items()}
    return {name: value for name, value in {**view, **items}.items() if name in names}


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What two views differ in, by the names that `part_of` takes."""
    names = [name for name in a if name != "memory" and not same_value(a[name], b[name])]
    old, new = a["memory"], b["memory"]
    items = [name for name in {**old, **new} if not same_value(old.get(name, _NONE), new.get(name, _NONE))]
    return [*names, *(f"memory/{name}" for name in items)]
