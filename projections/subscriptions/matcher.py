"""Finding the subscriptions that an event concerns, for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from duramen.events.codec import RawEvent
from duramen.events.model import MEMORY_SET, PatternIndex, agent_segments

from ..notifications import EventFilter
from ..state import CONTAINERS, DEEP, EXACT, MERGED, SHALLOW, ChangedPath, changed_paths

L = TypeVar("L", bound=Hashable)

_REMEMBERED: Final = 16_384  # answers, by agent and path: those of a program are few and come again and again
_REMEMBERED_LISTENERS: Final = 500_000
_LIFECYCLE: Final = 1


class SubscriptionMatcher(Generic[L]):
    """Finds listeners by their filters. Used by one thread at a time.

    A path is that of the agent followed by that of the property. An event concerns a listener if its pattern matches
    a path that the event names, or a path below that may have changed with it. For patterns with a "**" before that
    path, the second holds only where a dict or list was written or something was removed: they would match every
    scalar otherwise.
    """

    def __init__(self, filter_of: Callable[[L], EventFilter]) -> None:
        self._filter_of = filter_of
        self._index: PatternIndex[L] = PatternIndex()
        self._answers: dict[tuple[str, str, int], tuple[L, ...]] = {}
        self._remembered = 0
        self._wanted: dict[str, bool] = {}

    def add(self, listener: L) -> None:
        self._index.add(self._filter_of(listener).pattern, listener)
        self._clear_answers()

    def remove(self, listener: L) -> None:
        self._index.remove(self._filter_of(listener).pattern, listener)
        self._clear_answers()

    def wants(self, agent: str) -> bool:
        """Whether any event of this agent could concern a listener."""
        known = self._wanted.get(agent)
        if known is None:
            known = bool(self._index.match_below(agent_segments(agent)))
            if len(self._wanted) >= _REMEMBERED:
                self._wanted.clear()
            self._wanted[agent] = known
        return known

    def match(self, agent: str, seq: int, raw: RawEvent) -> dict[L, list[str]]:
        """The listeners that an event concerns, each with the property paths that it matches. Raises CorruptEvent."""
        if raw[0] == MEMORY_SET and raw[2] != _LIFECYCLE:
            known = self._match_set(agent, raw)
            if known is not None:
                return known
        changed = changed_paths(agent, seq, raw)
        found: dict[L, list[str]] = {}
        if not changed or raw[2] == _LIFECYCLE:
            for listener in self._listeners(agent, _AGENT):
                if self._filter_of(listener).accepts(raw):
                    found[listener] = []
        for one in changed:
            for listener in self._listeners(agent, one):
                if self._filter_of(listener).accepts(raw):
                    paths = found.setdefault(listener, [])
                    if one.path not in paths:
                        paths.append(one.path)
        return found

    def _match_set(self, agent: str, raw: RawEvent) -> dict[L, list[str]] | None:
        """As `match`, for the commonest event, in a third of the time; None if its answer is not remembered."""
        data = raw[4]
        try:
            path = data["path"]
            known = self._answers.get((agent, path, DEEP if type(data["value"]) in CONTAINERS else SHALLOW))
        except (KeyError, TypeError):
            return None
        return None if known is None else {one: [path] for one in known if self._filter_of(one).accepts(raw)}

    def _listeners(self, agent: str, changed: ChangedPath) -> tuple[L, ...]:
        key = (agent, changed.path, changed.depth)
        known = self._answers.get(key)
        if known is None:
            known = self._find((*agent_segments(agent), *changed.segments), changed.depth)
            self._remembered += 1 + len(known)
            if len(self._answers) >= _REMEMBERED or self._remembered > _REMEMBERED_LISTENERS:
                self._answers.clear()
                self._remembered = 0
            self._answers[key] = known
        return known

    def _find(self, path: tuple[str, ...], depth: int) -> tuple[L, ...]:
        if depth == DEEP:
            return tuple(self._index.match_below(path))
        found = set(self._index.match(path))
        if depth != EXACT:
            below = [one for one in self._index.match_below(path) if self._filter_of(one).fixed >= len(path)]
            if depth == MERGED:  # below, only elements of a list may be gone
                below = [one for one in below if self._may_name_element(one, len(path))]
            found.update(below)
        return tuple(found)

    def _may_name_element(self, listener: L, depth: int) -> bool:
        """Whether the segment of this depth in a pattern is a position in a list, or a wildcard."""
        following = self._filter_of(listener).pattern.segments[depth : depth + 1]
        return bool(following) and (following[0] in ("*", "**") or following[0].isdecimal())

    def _clear_answers(self) -> None:
        self._answers.clear()
        self._remembered = 0
        self._wanted.clear()


_AGENT: Final = ChangedPath("", (), EXACT)
