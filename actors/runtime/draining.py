"""Draining: agents leave memory as soon as they are not busy, and their trees go to other hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from ..dispatch import WORKING, ActorRegistry, Dispatcher, Mailbox
from ..hosts import Trees
from .active import Runtime
from .forwarding import Forwarding

_PAUSE: Final = 0.02
"""Seconds between two looks at the agents that are busy."""
_MOST_AT_ONCE: Final = 64
"""Agents that leave in one step of the core: fewer than the trees that are released together."""


class Draining:
    """Has agents leave memory, and gives up their trees. For a thread that may block.

    An agent that is busy leaves at the end of its turn; what waits for it is handled by its next host. One that has
    timers stays, with its tree: they would be lost. A sub-agent whose parent still works comes back if it is asked.
    """

    def __init__(self, actors: ActorRegistry, dispatcher: Dispatcher, trees: Trees) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._trees = trees

    def run(self, deadline: float, *, has_successor: Callable[[], bool]) -> bool:
        """Drain until nothing is left but agents with timers, or until `deadline` (of `time.monotonic`).

        Without a successor, another host that may take the trees, waiting messages are handled here first. Returns
        whether no tree is left.
        """
        never = threading.Event()
        while self._look(has_successor(), deadline):
            if monotonic() >= deadline:
                break
            never.wait(_PAUSE)
        return not len(self._trees)

    def _look(self, has_successor: bool, deadline: float) -> bool:
        """Have every agent leave that can; returns whether any of them is busy."""
        busy = False
        for page in self._actors.pages():
            for start in range(0, len(page), _MOST_AT_ONCE):
                part = page[start : start + _MOST_AT_ONCE]
                busy = self._leave_in_core(part, has_successor, deadline) or busy
        return busy or self._trees.is_releasing

    def _leave_in_core(self, page: list[Mailbox], has_successor: bool, deadline: float) -> bool:
        done, busy = threading.Event(), True

        def run() -> None:
            nonlocal busy
            busy = self._leave(page, has_successor)
            done.set()

        self._dispatcher.post(run)
        done.wait(max(0.0, deadline - monotonic()))
        return busy

    def _leave(self, page: list[Mailbox], has_successor: bool) -> bool:
        busy = False
        for mailbox in page:
            runner = mailbox.runner
            if isinstance(runner, Runtime):
                busy = not runner.leave(with_waiting=has_successor) or busy
            elif not isinstance(runner, Forwarding):
                busy = bool(mailbox.waiting) or mailbox.phase == WORKING or busy
        self._trees.release_empty()  # before what waits brings an agent back
        return busy
