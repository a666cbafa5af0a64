"""Which trees of agents are in memory here; those that are not are given up, so that other hosts may claim them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from duramen.events.model import root_of

_MOST_AT_ONCE: Final = 128
"""Trees that are released together. The core is busy meanwhile, and agents that enter one wait for all of them."""


class Trees:
    """Counts the agents in memory by tree. Used in the core.

    Trees that are empty are released by `release_empty`, a batch at a time. Meanwhile nobody may enter one of those:
    an agent that was claimed just before its tree was given up would have two hosts.
    """

    def __init__(self, release: Callable[[list[str]], None], submit: Callable[[Callable[[], None]], None]) -> None:
        """`release` gives trees up, blocking; `submit` runs a call in a worker thread; `ended` has to follow."""
        self._release = release
        self._submit = submit
        self._counts: dict[str, int] = {}
        self._empty: dict[str, None] = {}
        self._releasing: dict[str, list[Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, path: str, again: Callable[[], None]) -> bool:
        """Note that an agent comes into memory. False: its tree is being released; `again` is called afterwards."""
        root = root_of(path)
        waiting = self._releasing.get(root)
        if waiting is not None:
            waiting.append(again)
            return False
        self._counts[root] = self._counts.get(root, 0) + 1
        self._empty.pop(root, None)
        return True

    def leave(self, path: str) -> None:
        """Note that an agent has left memory."""
        root = root_of(path)
        left = self._counts[root] - 1
        if left:
            self._counts[root] = left
        else:
            del self._counts[root]
            self._empty[root] = None

    @property
    def is_releasing(self) -> bool:
        """Whether trees are being released now, or wait for that."""
        return bool(self._releasing or self._empty)

    def release_empty(self) -> None:
        """Begin to release the trees without an agent in memory: those that were left last at once, then the others."""
        roots = [self._empty.popitem()[0] for _ in range(min(_MOST_AT_ONCE, len(self._empty)))]
        if roots:
            self._releasing.update((root, []) for root in roots)
            self._submit(lambda: self._release(roots))

    def ended(self, roots: Iterable[str]) -> None:
        """Let those enter that have waited for the release of these trees, which has ended; go on with the others."""
        for again in _flat([self._releasing.pop(root, []) for root in roots]):
            again()
        if not self._releasing:
            self.release_empty()

    def forget_all(self) -> None:
        """Forget the trees that wait for their release: another host has them, or may have."""
        self._empty.clear()


def _flat(lists: Iterable[list[Callable[[], None]]]) -> list[Callable[[], None]]:
    return [call for calls in lists for call in calls]
