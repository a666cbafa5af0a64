"""Replies that wait until what they acknowledge has reached a disk or replicas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Final

from duramen.events import DuramenError, Unconfirmed
from duramen.events.log import CommittedAppend, Durability, EventLog
from duramen.events.logging import get_logger, raised_at

from .thread_pool import ThreadPool

_AT_A_TIME: Final = 2
"""Confirmations of one group under way: while one waits, what comes meanwhile need not wait for it."""
_MOST_THREADS: Final = 64

_Group = tuple[Durability, Hashable]
"""A durability, and the server that confirms it."""

Settle = Callable[[DuramenError | None], None]
"""Called in a thread of the confirmer with None (confirmed), or with the reason why not."""


class Confirmer:
    """Has committed appends confirmed, in threads of its own: neither the core nor any append waits for it.

    Appends of one durability and one server that are committed while others of it are under way are confirmed
    together. Those of different durabilities, or of different nodes of a cluster, do not wait for each other.
    Thread-safe.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._threads = ThreadPool("confirmer", _MOST_THREADS)
        self._lock = threading.Lock()
        self._waiting: dict[_Group, list[tuple[CommittedAppend, Settle]]] = {}
        self._running: dict[_Group, int] = {}

    def confirm(self, durability: Durability, append: CommittedAppend, settle: Settle) -> None:
        """Call `settle` once the append is confirmed, or is known not to be."""
        group = (durability, self._log.confirmed_by(append.agent))
        with self._lock:
            self._waiting.setdefault(group, []).append((append, settle))
            running = self._running.get(group, 0)
            if running >= _AT_A_TIME:
                return
            self._running[group] = running + 1
        try:
            self._threads.submit(lambda: self._run(group))
        except RuntimeError:  # the machine gives no thread
            with self._lock:
                self._note_end(group)
                alone = self._waiting.pop(group, []) if group not in self._running else []
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

    def _run(self, group: _Group) -> None:
        durability, _ = group
        while True:
            with self._lock:
                entries = self._waiting.pop(group, [])
                if not entries:
                    self._note_end(group)
                    return
            appends = [append for append, _ in entries]
            try:
                problems = self._log.confirm(durability, appends)
            except Exception as error:  # a defect: the appends are committed all the same
                get_logger("confirmer").error("confirming_failed", error=type(error).__name__, at=raised_at(error))
                problems = [_not_asked(append) for append in appends]
            _settle_all(entries, problems)

    def _note_end(self, group: _Group) -> None:
        """Count one confirmation of a group less. Nodes come and go, so a group without any is forgotten."""
        self._running[group] -= 1
        if not self._running[group]:
            del self._running[group]


def _settle_all(entries: list[tuple[CommittedAppend, Settle]], problems: list[DuramenError | None]) -> None:
    for (append, settle), problem in zip(entries, problems, strict=True):
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
