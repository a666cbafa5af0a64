"""Which of many path patterns a path matches, found without asking each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

from attrs import define, field

from .patterns import PathPattern

__all__ = ["PatternIndex"]

T = TypeVar("T", bound=Hashable)

_ONE: Final = "*"
_ANY: Final = "**"
_STATES: Final = 20_000
_TOKENS: Final = 1_000_000
"""Of all remembered answers together; with more, all are forgotten, and found again where they are needed."""


@define(eq=False)
class _Node(Generic[T]):
    """A place in patterns, and where the next step leads: a name, "*" or "**"."""

    repeats: bool = False
    """It stands behind a "**", and so stays while segments pass by."""
    names: dict[str, _Node[T]] = field(factory=dict[str, "_Node[T]"])
    one: _Node[T] | None = None
    any: _Node[T] | None = None
    tokens: dict[T, int] = field(factory=dict[T, int])
    """Of the patterns that end here, and how many of them."""

    def next(self, step: str) -> _Node[T] | None:
        if step == _ONE:
            return self.one
        return self.any if step == _ANY else self.names.get(step)

    def put(self, step: str, node: _Node[T] | None) -> None:
        if step == _ONE:
            self.one = node
        elif step == _ANY:
            self.any = node
        elif node is None:
            del self.names[step]
        else:
            self.names[step] = node

    @property
    def is_bare(self) -> bool:
        """Whether it leads nowhere."""
        return not self.tokens and not self.names and self.one is None and self.any is None


@define(eq=False)
class _State(Generic[T]):
    """All places in patterns to which a path can lead, and what was found out of there."""

    nodes: frozenset[_Node[T]]
    named: dict[str, _State[T]] = field(factory=dict[str, "_State[T]"])
    """Where a next segment leads that some pattern has here by name."""
    other: _State[T] | None = None
    """Where any other leads."""
    here: frozenset[T] | None = None
    below: frozenset[T] | None = None


class PatternIndex(Generic[T]):
    """Patterns with a token each. A token may have several patterns, and a pattern several tokens.

    Paths are followed through all patterns at once. Each set of places that some path has led to is remembered with
    its ways on, until patterns change: a path of three segments then takes three look-ups. Not thread-safe.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._states: dict[frozenset[_Node[T]], _State[T]] = {}
        self._start: _State[T] | None = None
        self._held = 0
        self._patterns = 0

    def __len__(self) -> int:
        """How many patterns there are; one that was added twice counts twice."""
        return self._patterns

    def add(self, pattern: str | PathPattern, token: T) -> None:
        """Add a pattern. Raises InvalidPath for a text that is none."""
        node = self._root
        for step in _steps(pattern):
            found = node.next(step)
            if found is None:
                found = _Node[T](step == _ANY)
                node.put(step, found)
            node = found
        node.tokens[token] = node.tokens.get(token, 0) + 1
        self._patterns += 1
        self._forget()

    def remove(self, pattern: str | PathPattern, token: T) -> None:
        """Undo one `add`. Raises KeyError if there was none."""
        steps = _steps(pattern)
        node = self._root
        way = [node]
        for step in steps:
            found = node.next(step)
            if found is None:
                raise KeyError(token)
            node = found
            way.append(node)
        count = node.tokens[token]
        if count > 1:
            node.tokens[token] = count - 1
        else:
            del node.tokens[token]
        for step in reversed(steps):  # a branch that leads nowhere any more would slow all others down
            if not way.pop().is_bare:
                break
            way[-1].put(step, None)
        self._patterns -= 1
        self._forget()

    def match(self, path: Sequence[str]) -> frozenset[T]:
        """The tokens of all patterns that match the whole path, given in unescaped segments."""
        state = self._reached(path)
        if state.here is None:
            state.here = frozenset(token for node in state.nodes for token in node.tokens)
            self._hold(len(state.here))
        return state.here

    def match_below(self, path: Sequence[str]) -> frozenset[T]:
        """The tokens of all patterns that match the path, or some path that begins with it.

        This is who may have to know when a whole subtree was replaced. The other path need not exist.
        """
        state = self._reached(path)
        if state.below is None:
            state.below = frozenset(token for node in state.nodes for token in _all_tokens(node))
            self._hold(len(state.below))
        return state.below

    def _reached(self, path: Sequence[str]) -> _State[T]:
        state = self._start
        if state is None:
            first = {self._root} if self._root.any is None else {self._root, self._root.any}
            state = self._start = self._state(frozenset(first))
        for segment in path:
            state = state.named.get(segment) or self._next(state, segment)
        return state

    def _next(self, state: _State[T], segment: str) -> _State[T]:
        """Where a segment leads: as many places at most as the index has."""
        named = any(segment in node.names for node in state.nodes)
        if state.other is not None and not named:
            return state.other
        after: set[_Node[T]] = set()
        for node in state.nodes:
            if node.repeats:
                after.add(node)
            for found in (node.names.get(segment), node.one):
                if found is not None:
                    after.add(found)
                    if found.any is not None:  # it may stand for nothing
                        after.add(found.any)
        following = self._state(frozenset(after))
        if named:
            state.named[segment] = following
            self._hold(1)
        else:
            state.other = following
        return following

    def _state(self, nodes: frozenset[_Node[T]]) -> _State[T]:
        known = self._states.get(nodes)
        if known is None:
            if len(self._states) >= _STATES:
                self._forget()
            known = self._states[nodes] = _State(nodes)
            self._hold(len(nodes))
        return known

    def _hold(self, more: int) -> None:
        self._held += more
        if self._held > _TOKENS:
            self._forget()

    def _forget(self) -> None:
        for state in self._states.values():  # they lead to each other: let go of them without the collector
            state.named.clear()
            state.other = None
        self._states.clear()
        self._start = None
        self._held = 0


def _steps(pattern: str | PathPattern) -> list[str]:
    """The segments, without a "**" right behind another, which adds nothing."""
    segments = PathPattern.parse(pattern).segments
    return [s for at, s in enumerate(segments) if not (s == _ANY and at and segments[at - 1] == _ANY)]


def _all_tokens(top: _Node[T]) -> list[T]:
    found: list[T] = []
    waiting = [top]
    while waiting:
        node = waiting.pop()
        found.extend(node.tokens)
        waiting.extend(node.names.values())
        waiting.extend(found for found in (node.one, node.any) if found is not None)
    return found
