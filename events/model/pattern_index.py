"""An index of many path patterns: finds those that match a path without trying each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

from attrs import define, field

from .patterns import PathPattern, Wildcard

T = TypeVar("T", bound=Hashable)

_STATES: Final = 20_000
_TOKENS: Final = 1_000_000
"""Tokens in all cached answers together; beyond that, the cache is cleared."""


@define(eq=False)
class _Node(Generic[T]):
    """A node of the trie of patterns, and its children by the next step: a name, "*" or "**"."""

    repeats: bool = False
    """It follows a "**", and so remains reached by any further segment."""
    names: dict[str, _Node[T]] = field(factory=dict[str, "_Node[T]"])
    one: _Node[T] | None = None
    any: _Node[T] | None = None
    tokens: dict[T, int] = field(factory=dict[T, int])
    """Tokens of the patterns that end here, and how many of these patterns each has."""

    def child(self, step: str) -> _Node[T] | None:
        if step is Wildcard.ONE:
            return self.one
        return self.any if step is Wildcard.ANY else self.names.get(step)

    def set_child(self, step: str, node: _Node[T] | None) -> None:
        if step is Wildcard.ONE:
            self.one = node
        elif step is Wildcard.ANY:
            self.any = node
        elif node is None:
            del self.names[step]
        else:
            self.names[step] = node

    @property
    def is_empty(self) -> bool:
        """Whether no pattern ends here or goes on from here."""
        return not self.tokens and not self.names and self.one is None and self.any is None


@define(eq=False)
class _State(Generic[T]):
    """The set of nodes that some path reaches, and the answers cached for it."""

    nodes: frozenset[_Node[T]]
    named: dict[str, _State[T]] = field(factory=dict[str, "_State[T]"])
    """The next state, by the next segment where some pattern names that segment here."""
    other: _State[T] | None = None
    """The next state for any other segment."""
    matching: frozenset[T] | None = None
    matching_below: frozenset[T] | None = None


class PatternIndex(Generic[T]):
    """Patterns, each added with a token. A token may have several patterns, and a pattern several tokens.

    A path is followed through all patterns at once. The set of nodes that a path reaches is cached with its
    successors until patterns change: a path of three segments then takes three look-ups. Not thread-safe.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._states: dict[frozenset[_Node[T]], _State[T]] = {}
        self._start: _State[T] | None = None
        self._cached = 0
        self._patterns = 0

    def __len__(self) -> int:
        """The number of patterns; a pattern added twice counts twice."""
        return self._patterns

    def add(self, pattern: str | PathPattern, token: T) -> None:
        """Add a pattern. Raises InvalidPath for text that is not a pattern."""
        node = self._root
        for step in PathPattern.parse(pattern).steps:
            found = node.child(step)
            if found is None:
                found = _Node[T](step is Wildcard.ANY)
                node.set_child(step, found)
            node = found
        node.tokens[token] = node.tokens.get(token, 0) + 1
        self._patterns += 1
        self._clear_cache()

    def remove(self, pattern: str | PathPattern, token: T) -> None:
        """Undo one `add`. Raises KeyError if there was none."""
        steps = PathPattern.parse(pattern).steps
        node = self._root
        trail = [node]
        for step in steps:
            found = node.child(step)
            if found is None:
                raise KeyError(token)
            node = found
            trail.append(node)
        count = node.tokens[token]
        if count > 1:
            node.tokens[token] = count - 1
        else:
            del node.tokens[token]
        for step in reversed(steps):  # an empty branch would slow every match down
            if not trail.pop().is_empty:
                break
            trail[-1].set_child(step, None)
        self._patterns -= 1
        self._clear_cache()

    def match(self, path: Sequence[str]) -> frozenset[T]:
        """Return the tokens of all patterns that match the whole path, given in unescaped segments."""
        state = self._reach(path)
        if state.matching is None:
            state.matching = frozenset(token for node in state.nodes for token in node.tokens)
            self._count_cached(len(state.matching))
        return state.matching

    def match_below(self, path: Sequence[str]) -> frozenset[T]:
        """Return the tokens of all patterns that match the path, or any path that begins with it.

        These are concerned when a whole subtree is replaced. The longer path need not exist.
        """
        state = self._reach(path)
        if state.matching_below is None:
            state.matching_below = frozenset(token for node in state.nodes for token in _all_tokens(node))
            self._count_cached(len(state.matching_below))
        return state.matching_below

    def _reach(self, path: Sequence[str]) -> _State[T]:
        state = self._start
        if state is None:
            first = {self._root} if self._root.any is None else {self._root, self._root.any}
            state = self._start = self._state_of(frozenset(first))
        for segment in path:
            state = state.named.get(segment) or self._next(state, segment)
        return state

    def _next(self, state: _State[T], segment: str) -> _State[T]:
        """Return the state after one more segment; it has at most as many nodes as the index."""
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
                    if found.any is not None:  # "**" may match no segment
                        after.add(found.any)
        following = self._state_of(frozenset(after))
        if named:
            state.named[segment] = following
            self._count_cached(1)
        else:
            state.other = following
        return following

    def _state_of(self, nodes: frozenset[_Node[T]]) -> _State[T]:
        known = self._states.get(nodes)
        if known is None:
            if len(self._states) >= _STATES:
                self._clear_cache()
            known = self._states[nodes] = _State(nodes)
            self._count_cached(len(nodes))
        return known

    def _count_cached(self, more: int) -> None:
        self._cached += more
        if self._cached > _TOKENS:
            self._clear_cache()

    def _clear_cache(self) -> None:
        for state in self._states.values():  # states refer to each other: free them without the garbage collector
            state.named.clear()
            state.other = None
        self._states.clear()
        self._start = None
        self._cached = 0


def _all_tokens(top: _Node[T]) -> list[T]:
    found: list[T] = []
    waiting = [top]
    while waiting:
        node = waiting.pop()
        found.extend(node.tokens)
        waiting.extend(node.names.values())
        waiting.extend(found for found in (node.one, node.any) if found is not None)
    return found
