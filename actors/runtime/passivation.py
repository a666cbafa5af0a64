"""Passivation removes idle agents from memory; the next message activates them again."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from time import monotonic
from typing import Final

from ..dispatch import IDLE, ActorRegistry, Dispatcher, Mailbox
from .active import Runtime
from .forwarding import Forwarding

_ACTIVE: Final = (Runtime, Forwarding)
"""The runners that take memory until they are released."""
_INTERVAL: Final = 0.25
_SORTED: Final = 128
"""Mailboxes that are sorted in one step, which takes about 0.1 ms."""


class Passivation:
    """Passivates agents idle for `after` seconds, and the longest idle ones while more than `most` are in memory.

    An agent with a timer, a stash or a waiting message is not idle. All of it happens in the core, in short steps.
    """

    def __init__(self, actors: ActorRegistry, dispatcher: Dispatcher, after: float | None, most: int | None) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._after = after
        self._most = most
        self._is_sweeping = False
        self._is_releasing_excess = False

    @property
    def interval(self) -> float | None:
        """Seconds between sweeps; None if no agent is ever passivated."""
        if self._most is not None:
            return _INTERVAL if self._after is None else min(_INTERVAL, max(0.01, self._after / 4))
        return None if self._after is None else max(0.01, self._after / 4)

    def sweep(self) -> None:
        """Check all agents. Callable from any thread; returns before it is done."""
        self._dispatcher.post(self.release_excess)
        if self._after is not None and not self._is_sweeping:
            self._is_sweeping = True
            sweep = self._release_idle(self._after)
            self._dispatcher.post_in_steps(sweep)

    def release_excess(self) -> None:
        """Passivate the longest idle agents beyond `most`, and a tenth of `most` more; called after an activation.

        The tenth is spare room, so that not every activation has to search. Busy agents stay until a later sweep.
        """
        if self._most is not None and len(self._actors) > self._most and not self._is_releasing_excess:
            self._is_releasing_excess = True
            self._dispatcher.run_in_steps(self._release_longest_idle(self._most))

    def release_all(self) -> None:
        """Cancel the timers and end the threads of all agents; called when the system closes."""
        self._dispatcher.run_in_steps(self._release_resources())

    def refuse_remote(self) -> None:
        """Have messages of other hosts that wait for the end of work sent elsewhere; called when the system closes."""
        self._dispatcher.run_in_steps(self._refuse_remote())

    def _refuse_remote(self) -> Iterator[None]:
        for page in self._actors.pages():
            for mailbox in page:
                if isinstance(mailbox.runner, Runtime):
                    mailbox.runner.refuse_remote()
                yield

    def _release_idle(self, after: float) -> Iterator[None]:
        try:
            limit = monotonic() - after
            for page in self._actors.pages():
                while page:  # what is released is freed at once, and not all of it together
                    mailbox = page.pop()
                    if _is_idle(mailbox) and _last_used(mailbox) <= limit:
                        self._release(mailbox)
                    yield
        finally:
            self._is_sweeping = False

    def _release_longest_idle(self, most: int) -> Iterator[None]:
        try:
            begun, runs, longest_idle = monotonic(), list[list[Mailbox]](), list[tuple[float, int]]()
            for page in self._actors.pages():
                while page:
                    part = page[-_SORTED:]
                    del page[-_SORTED:]
                    run = sorted(filter(_is_idle, part), key=_last_used, reverse=True)
                    if run:
                        heappush(longest_idle, (_last_used(run[-1]), len(runs)))
                        runs.append(run)
                    yield
            excess = len(self._actors) - most + most // 10
            while excess > 0 and longest_idle:
                run = runs[longest_idle[0][1]]
                mailbox = run.pop()
                if run:
                    heapreplace(longest_idle, (_last_used(run[-1]), longest_idle[0][1]))
                else:
                    heappop(longest_idle)
                # It may have been used since it was sorted.
                if _is_idle(mailbox) and _last_used(mailbox) <= begun and self._release(mailbox):
                    excess -= 1
                yield
            while runs:
                runs.pop()
                yield
        finally:
            self._is_releasing_excess = False

    def _release_resources(self) -> Iterator[None]:
        for page in self._actors.pages():
            for mailbox in page:
                if isinstance(mailbox.runner, _ACTIVE):
                    mailbox.runner.release_resources()
                yield

    def _release(self, mailbox: Mailbox) -> bool:
        runtime = mailbox.runner
        removed = self._actors.remove_if_idle(mailbox)
        if removed and isinstance(runtime, _ACTIVE):
            runtime.release_resources()
        return removed


def _is_idle(mailbox: Mailbox) -> bool:
    runtime = mailbox.runner
    return mailbox.phase == IDLE and not mailbox.waiting and isinstance(runtime, _ACTIVE) and runtime.can_passivate


def _last_used(mailbox: Mailbox) -> float:
    runtime = mailbox.runner
    return runtime.last_used if isinstance(runtime, _ACTIVE) else 0.0
