"""The writing side of the log in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ..errors import DuramenError
from ..log import Answer, Append


class MemoryWriter:
    """The writing side of `MemoryLog`: an append is answered as soon as it is sent."""

    def __init__(self, commit: Callable[[int, Sequence[Append]], list[Answer]]) -> None:
        self._commit = commit
        self._done: deque[tuple[Sequence[Append], list[Answer] | DuramenError]] = deque()

    @property
    def in_flight(self) -> int:
        return len(self._done)

    @property
    def connected(self) -> bool:
        return True

    def give_up(self) -> None:
        """Does nothing: no batch is ever under way."""

    def send(self, batches: Sequence[tuple[int, Sequence[Append]]]) -> None:
        for partition, batch in batches:
            self._done.append((batch, self._commit(partition, batch)))

    def receive(self, timeout: float | None) -> list[tuple[Sequence[Append], list[Answer] | DuramenError]]:
        done = list(self._done)
        self._done.clear()
        return done

    def wake(self) -> None:
        """Does nothing: `receive` never waits."""

    def close(self) -> None:
        self._done.clear()
