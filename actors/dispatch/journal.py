"""The journal sends the appends of all agents of this process, in batches of one partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Final, cast

from duramen.events import DuramenError, Limits, OutcomeUnknown
from duramen.events.log import Answer, Append, EventLog
from duramen.events.logging import get_logger, raised_at
from duramen.events.measures import Histogram

_MOST_APPENDS: Final = 512
"""Most appends in one batch: one script call of this size blocks the server for a few ms."""
_MOST_IN_FLIGHT: Final = 64
"""Most batches in flight; beyond that, appends gather into larger batches instead."""

Answers = list[tuple[Sequence[Append], list[Answer] | DuramenError]]
"""Batches, each with the log's answer to each of its appends, or the error for all."""

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Commit(Append):
    """An append that knows its partition and handles the log's answer."""

    __slots__ = ("partition", "sent_at")

    partition: int
    sent_at: float
    """When its batch was sent, by `monotonic`."""

    def settle(self, answer: Answer | DuramenError) -> None:
        """Handle the log's answer; called in the core."""
        raise NotImplementedError


class Journal:
    """Gathers commits, sends them and hands out the answers. Only the core may use it, one thread at a time.

    A batch is never delayed on purpose: it holds the commits gathered while the core was busy. Batches of several
    partitions, and several of one partition, are in flight together. Their order does not matter, since an agent has
    at most one append in flight.
    """

    def __init__(self, log: EventLog, limits: Limits) -> None:
        self._writer = log.writer()
        self._bytes = limits.batch_bytes
        self._pending: dict[int, deque[Commit]] = {}
        self._log = get_logger("journal")
        self._closed = False
        self._answered: list[list[Commit]] = []  # that the writer may answer once more
        self.appends_failed = 0
        """Appends whose batch the log has answered with an error: not reached, or with an unknown outcome."""
        self.batch_sizes = Histogram([2**power for power in range(10)])
        """Appends in each batch that was sent."""
        self.commit_seconds = Histogram(_SECONDS)
        """From sending a batch to its answer."""

    @property
    def in_flight(self) -> int:
        return self._writer.in_flight

    @property
    def idle(self) -> bool:
        return not self._pending and not self._writer.in_flight

    def submit(self, commit: Commit) -> None:
        waiting = self._pending.get(commit.partition)
        if waiting is None:
            waiting = self._pending[commit.partition] = deque()
        waiting.append(commit)

    def flush(self) -> None:
        """Send pending commits, up to the limit of batches in flight."""
        pending = self._pending
        if not pending:
            return
        batches: list[tuple[int, list[Commit]]] = []
        room = _MOST_IN_FLIGHT - self._writer.in_flight
        now = monotonic()
        while pending and len(batches) < room:
            partition, waiting = next(iter(pending.items()))
            batch = self._next_batch(waiting)
            for commit in batch:  # a writer may answer a batch in parts
                commit.sent_at = now
            self.batch_sizes.observe(len(batch))
            batches.append((partition, batch))
            if not waiting:
                del pending[partition]
        if batches:
            try:
                self._writer.send(batches)
            except Exception as error:
                self._fail_unsent([batch for _, batch in batches], error)

    def _fail_unsent(self, batches: list[list[Commit]], error: Exception) -> None:
        """Answer batches whose sending raised, which is a defect: some may have been sent all the same."""
        self._log.error("sending_failed", error=type(error).__name__, at=raised_at(error))
        self._answered += batches
        for commit in (commit for batch in batches for commit in batch):
            self._settle(commit, OutcomeUnknown("the log could not be asked, because of a defect", agent=commit.agent))

    def _next_batch(self, waiting: deque[Commit]) -> list[Commit]:
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

    def receive(self, timeout: float | None) -> Answers:
        """Return the answers that have arrived, for `settle`; block at most `timeout` seconds for the first."""
        return self._writer.receive(timeout)

    def settle(self, answers: Answers) -> None:
        """Hand out answers."""
        now = monotonic()
        for batch, result in answers:
            commits = cast("list[Commit]", batch)
            self.commit_seconds.observe(now - commits[0].sent_at)
            if self._answered and any(commits is answered for answered in self._answered):
                continue
            if isinstance(result, DuramenError):
                self.appends_failed += len(commits)
                for commit in commits:
                    self._settle(commit, result)
            else:
                for commit, answer in zip(commits, result, strict=True):
                    self._settle(commit, answer)

    def _settle(self, commit: Commit, answer: Answer | DuramenError) -> None:
        try:
            commit.settle(answer)
        except Exception as error:  # one agent's failure must not stop the others
            self._log.error("settling_failed", agent=commit.agent, error=type(error).__name__, at=raised_at(error))

    @property
    def connected(self) -> bool:
        """Whether the writer has a connection. Opening one may block."""
        return self._writer.connected

    def give_up(self) -> None:
        """Fail all appends in flight with OutcomeUnknown. Callable from any thread."""
        self._writer.give_up()

    def wake(self) -> None:
        """Unblock `receive`. Callable from any thread."""
        self._writer.wake()

    def close(self) -> None:
        """Close the writer. Idempotent."""
        if not self._closed:
            self._closed = True
            self._writer.close()
