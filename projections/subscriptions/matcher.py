"""Who is concerned by an event: all subscriptions asked at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from duramen.events.codec import RawEvent
from duramen.events.model import MEMORY_SET, PatternIndex

from ..notifications import EventFilter
from ..state import CONTAINERS, DEEP, EXACT, SHALLOW, ChangedPath, changed_paths

__all__ = ["SubscriptionMatcher"]

L = TypeVar("L", bound=Hashable)

_REMEMBERED: Final = 16_384  # answers, by agent and path: those of a program are few and come again and again
_REMEMBERED_LISTENERS: Final = 500_000
_LIFECYCLE: Final = 1


class SubscriptionMatcher(Generic[L]):
    """Listeners by what they are interested in. Used by one thread at a time.

    A path is that of the agent with that of the property behind it. A listener is concerned if its pattern matches
    a path that the event names; and if it matches something below such a path that may have changed with it. Of
    what may lie anywhere (its pattern has a "**" before) it hears only where a dict or list was written or something
    was removed: it would hear of every scalar otherwise.
    """

    def __init__(self, interest_of: Callable[[L], EventFilter]) -> None:
        self._interest_of = interest_of
        self._index: PatternIndex[L] = PatternIndex()
        self._answers: dict[tuple[str, str, int], tuple[L, ...]] = {}
        self._held = 0
        self._wanted: dict[str, bool] = {}

    def add(self, listener: L) -> None:
        self._index.add(self._interest_of(listener).pattern, listener)
        self._forget()

    def remove(self, listener: L) -> None:
        self._index.remove(self._interest_of(listener).pattern, listener)
        self._forget()

    def wants(self, agent: str) -> bool:
        """Whether any event of this agent could concern anybody."""
        known = self._wanted.get(agent)
        if known is None:
            known = bool(self._index.match_below(agent.split("/")))
            if len(self._wanted) >= _REMEMBERED:
                self._wanted.clear()
            self._wanted[agent] = known
        return known

    def of(self, agent: str, seq: int, raw: RawEvent) -> dict[L, list[str]]:
        """Who is concerned, and by which property paths. Raises CorruptEvent."""
        if raw[0] == MEMORY_SET and raw[2] != _LIFECYCLE:
            known = self._of_set(agent, raw)
            if known is not None:
                return known
        changed = changed_paths(agent, seq, raw)
        found: dict[L, list[str]] = {}
        if not changed or raw[2] == _LIFECYCLE:
            for listener in self._at(agent, _AGENT):
                if self._interest_of(listener).takes(raw):
                    found[listener] = []
        for touch in changed:
            for listener in self._at(agent, touch):
                if self._interest_of(listener).takes(raw):
                    paths = found.setdefault(listener, [])
                    if touch.path not in paths:
                        paths.append(touch.path)
        return found

    def _of_set(self, agent: str, raw: RawEvent) -> dict[L, list[str]] | None:
        """Of the commonest event, if its answer is known: in a third of the time. None: look closer."""
        data = raw[4]
        try:
            path = data["path"]
            known = self._answers.get((agent, path, DEEP if type(data["value"]) in CONTAINERS else SHALLOW))
        except (KeyError, TypeError):
            return None
        return None if known is None else {one: [path] for one in known if self._interest_of(one).takes(raw)}

    def _at(self, agent: str, touch: ChangedPath) -> tuple[L, ...]:
        key = (agent, touch.path, touch.depth)
        known = self._answers.get(key)
        if known is None:
            known = self._look((*agent.split("/"), *touch.segments), touch.depth)
            self._held += 1 + len(known)
            if len(self._answers) >= _REMEMBERED or self._held > _REMEMBERED_LISTENERS:
                self._answers.clear()
                self._held = 0
            self._answers[key] = known
        return known

    def _look(self, path: tuple[str, ...], depth: int) -> tuple[L, ...]:
        if depth == DEEP:
            return tuple(self._index.match_below(path))
        found = set(self._index.match(path))
        if depth != EXACT:
            below = self._index.match_below(path)
            found.update(listener for listener in below if self._interest_of(listener).fixed >= len(path))
        return tuple(found)

    def _forget(self) -> None:
        self._answers.clear()
        self._held = 0
        self._wanted.clear()


_AGENT: Final = ChangedPath("", (), EXACT)
