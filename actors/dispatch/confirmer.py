"""Replies that wait until what they acknowledge has reached a disk or replicas."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from duramen.events import DuramenError, Unconfirmed
from duramen.events.log import CommittedAppend, Durability, EventLog
from duramen.events.logging import get_logger, raised_at

from .thread_pool import ThreadPool

_AT_A_TIME: Final = 2
"""Groups of one durability under way: while one waits, what comes meanwhile need not wait for it."""
_MOST_THREADS: Final = 16

Settle = Callable[[DuramenError | None], None]
"""Called in a thread of the confirmer with None (confirmed), or with the reason why not."""


class Confirmer:
    """Has committed appends confirmed, in threads of its own: neither the core nor any append waits for it.

    Appends of one durability that are committed while others of it are under way are confirmed together. Those of
    different durabilities do not wait for each other. Thread-safe.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._threads = ThreadPool("confirmer", _MOST_THREADS)
        self._lock = threading.Lock()
        self._waiting: dict[Durability, list[tuple[CommittedAppend, Settle]]] = {}
        self._running: dict[Durability, int] = {}

    def confirm(self, durability: Durability, append: CommittedAppend, settle: Settle) -> None:
        """Call `settle` once the append is confirmed, or is known not to be."""
        with self._lock:
            self._waiting.setdefault(durability, []).append((append, settle))
            running = self._running.get(durability, 0)
            if running >= _AT_A_TIME:
                return
            self._running[durability] = running + 1
        try:
            self._threads.submit(lambda: self._run(durability))
        except RuntimeError:  # the machine gives no thread
            with self._lock:
                self._running[durability] -= 1
                alone = self._waiting.pop(durability, []) if not self._running[durability] else []
            _settle_all(alone, [_not_asked(append) for append, _ in alone])

    def close(self, timeout: float) -> bool:
        """Wait until everything is settled, at most `timeout` seconds; whether it is.

        What is not under way by then is settled as unconfirmed.
        """
        ended = self._threads.close(timeout)
        with self._lock:
            left = [entry for entries in self._waiting.values() for entry in entries]
            self._waiting.clear()
        _settle_all(left, [_not_asked(append) for append, _ in left])
        return ended

    def runs_here(self) -> bool:
        """Whether the calling thread is one of the confirmer's."""
        return self._threads.runs_here()

    def _run(self, durability: Durability) -> None:
        while True:
            with self._lock:
                group = self._waiting.pop(durability, [])
                if not group:
                    self._running[durability] -= 1
                    return
            appends = [append for append, _ in group]
            try:
                problems = self._log.confirm(durability, appends)
            except Exception as error:  # a defect: the appends are committed all the same
                get_logger("confirmer").error("confirming_failed", error=type(error).__name__, at=raised_at(error))
                problems = [_not_asked(append) for append in appends]
            _settle_all(group, problems)


def _settle_all(group: list[tuple[CommittedAppend, Settle]], problems: list[DuramenError | None]) -> None:
    for (append, settle), problem in zip(group, problems, strict=True):
        try:
            settle(problem)
        except Exception as error:  # one caller's failure must not stop the others
            get_logger("confirmer").error(
                "settling_failed", agent=append.agent, error=type(error).__name__, at=raised_at(error)
            )


def _not_asked(append: CommittedAppend) -> DuramenError | None:
    return Unconfirmed(
        "the append is committed, but was not confirmed; do not send it as a new command",
        agent=append.agent,
        seq=append.seq,
    )
