"""The journal writer: appends of all agents of this process go out as batches of a partition."""

from __future__ import annotations

from collections import deque
from typing import Final, cast

from duramen.events import DuramenError, Limits
from duramen.events.log import Answer, Append, EventLog
from duramen.events.logging import get_logger, raised_at

__all__ = ["Commit", "Journal"]

_MOST_APPENDS: Final = 512
"""Agents in one batch: one script call of them keeps the server for a few ms, and other clients waiting so long."""
_MOST_IN_FLIGHT: Final = 64
"""Batches under way; beyond that, appends gather into larger batches instead."""


class Commit(Append):
    """An append that knows its partition, and what to do when it is answered."""

    __slots__ = ("partition",)

    partition: int

    def settle(self, answer: Answer | DuramenError) -> None:
        """Take the log's answer, in the core's thread."""
        raise NotImplementedError


class Journal:
    """Gathers commits, sends them, hands out the answers. Belongs to the dispatcher's core: one thread at a time.

    A batch is never delayed on purpose: it is whatever gathered while the core was busy. Batches of different
    partitions, and several of one, are under way together; an agent has one append under way at most, so their
    order does not matter.
    """

    def __init__(self, log: EventLog, limits: Limits) -> None:
        self._writer = log.writer()
        self._bytes = limits.batch_bytes
        self._gathered: dict[int, deque[Commit]] = {}
        self._log = get_logger("journal")

    @property
    def in_flight(self) -> int:
        return self._writer.in_flight

    @property
    def idle(self) -> bool:
        return not self._gathered and not self._writer.in_flight

    def submit(self, commit: Commit) -> None:
        waiting = self._gathered.get(commit.partition)
        if waiting is None:
            waiting = self._gathered[commit.partition] = deque()
        waiting.append(commit)

    def flush(self) -> None:
        """Send what has gathered, as far as there is room under way."""
        gathered = self._gathered
        batches: list[tuple[int, list[Commit]]] = []
        room = _MOST_IN_FLIGHT - self._writer.in_flight
        while gathered and len(batches) < room:
            partition, waiting = next(iter(gathered.items()))
            batches.append((partition, self._take(waiting)))
            if not waiting:
                del gathered[partition]
        if batches:
            self._writer.send(batches)

    def _take(self, waiting: deque[Commit]) -> list[Commit]:
        if len(waiting) == 1:
            return [waiting.popleft()]
        batch: list[Commit] = []
        size = 0
        while waiting and len(batch) < _MOST_APPENDS:
            size += waiting[0].size
            if batch and size > self._bytes:
                break
            batch.append(waiting.popleft())
        return batch

    def collect(self, timeout: float | None) -> None:
        """Hand out the answers that are there; wait for one at most `timeout` seconds."""
        for batch, result in self._writer.receive(timeout):
            commits = cast("list[Commit]", batch)
            if isinstance(result, DuramenError):
                for commit in commits:
                    self._settle(commit, result)
            else:
                for commit, answer in zip(commits, result, strict=True):
                    self._settle(commit, answer)

    def _settle(self, commit: Commit, answer: Answer | DuramenError) -> None:
        try:
            commit.settle(answer)
        except Exception as error:  # one agent's trouble is not the others'
            self._log.error("settling_failed", agent=commit.agent, error=type(error).__name__, at=raised_at(error))

    @property
    def connected(self) -> bool:
        """Whether the log can be reached without opening a connection first, which may take its time."""
        return self._writer.connected

    def give_up(self) -> None:
        """Let everything under way end as unknown. Callable from any thread."""
        self._writer.give_up()

    def wake(self) -> None:
        """End a `collect` that waits. Callable from any thread."""
        self._writer.wake()

    def close(self) -> None:
        self._writer.close()
