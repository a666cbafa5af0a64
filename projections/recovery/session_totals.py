"""The totals of a session: its events, tokens, tools and activities, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from attrs import evolve, frozen

from duramen.events import Event
from duramen.events.model import ACTIVITY_RECORDED

from ..projection import Projection

_MOST_ACTIONS: Final = 100


@frozen
class SessionTotals:
    """The totals of a session, counted over its events."""

    events: int = 0
    tokens_used: int = 0
    actions: tuple[tuple[str, int], ...] = ()
    tools: Mapping[str, int] = {}
    activities: Mapping[str, int] = {}


class SessionActivity(Projection[SessionTotals]):
    """Counts one session; give it the events of that session's seq range."""

    def initial(self) -> SessionTotals:
        return SessionTotals()

    def apply(self, state: SessionTotals, event: Event) -> SessionTotals:
        counted = evolve(state, events=state.events + 1)
        if event.type != ACTIVITY_RECORDED:
            return counted
        kind, data = event.data["kind"], event.data["data"]
        counted = evolve(counted, activities=_more(state.activities, kind))
        if not is_plain_dict(data):
            return counted
        counted = evolve(counted, tokens_used=state.tokens_used + _tokens(data))
        tool = data.get("tool")
        if kind == "tool_output" and type(tool) is str:
            actions = (*state.actions, (tool[:200], event.seq)) if len(state.actions) < _MOST_ACTIONS else state.actions
            counted = evolve(counted, actions=actions, tools=_more(state.tools, tool[:200]))
        return counted

    def dump(self, state: SessionTotals) -> Any:
        actions = [list(action) for action in state.actions]
        return [state.events, state.tokens_used, actions, dict(state.tools), dict(state.activities)]

    def load(self, data: Any) -> SessionTotals:
        events, tokens_used, actions, tools, activities = data
        return SessionTotals(events, tokens_used, tuple((tool, seq) for tool, seq in actions), tools, activities)


def is_plain_dict(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a recorded value is a dict."""
    return type(value) is dict


def _more(counts: Mapping[str, int], key: str) -> Mapping[str, int]:
    return Counter(counts) + Counter((key,))


def _tokens(data: dict[str, Any]) -> int:
    """Tokens as a completion reports them: `tokens_used`, or `usage.total_tokens` as chat services have it."""
    usage: Any = data.get("usage")
    found: Any = data.get("tokens_used", usage.get("total_tokens") if is_plain_dict(usage) else None)
    return found if type(found) is int and found > 0 else 0
