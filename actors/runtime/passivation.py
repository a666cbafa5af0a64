"""Passivation removes idle agents from memory; the next message activates them again."""

from __future__ import annotations

from heapq import nsmallest
from time import monotonic
from typing import Final

from ..dispatch import IDLE, ActorRegistry, Dispatcher, Mailbox
from .runtime import Runtime

__all__ = ["Passivation"]

_INTERVAL: Final = 0.25
_STEP: Final = 2_000
"""Agents checked in one piece of work, so that a sweep does not block the core."""


class Passivation:
    """Passivates agents idle for `after` seconds, and the longest idle ones while more than `most` are in memory.

    An agent with a timer, a stash or a waiting message is not idle. All of it happens in the core.
    """

    def __init__(self, actors: ActorRegistry, dispatcher: Dispatcher, after: float | None, most: int | None) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._after = after
        self._most = most

    @property
    def interval(self) -> float | None:
        """Seconds between sweeps; None if no agent is ever passivated."""
        if self._most is not None:
            return _INTERVAL if self._after is None else min(_INTERVAL, max(0.01, self._after / 4))
        return None if self._after is None else max(0.01, self._after / 4)

    def sweep(self) -> None:
        """Check all agents, a step at a time. Callable from any thread."""
        self._dispatcher.post(self.release_excess)
        if self._after is not None:
            self._sweep_step(self._actors.mailboxes())

    def release_excess(self) -> None:
        """Passivate the longest idle agents beyond `most`, and a tenth of `most` more; called after an activation.

        The tenth is spare room, so that not every activation has to search. Busy agents stay until a later sweep.
        """
        if self._most is None or len(self._actors) <= self._most:
            return
        idle = [mailbox for mailbox in self._actors.mailboxes() if _is_idle(mailbox)]
        excess = len(self._actors) - self._most + self._most // 10
        for mailbox in nsmallest(excess, idle, key=_last_used):
            self._release(mailbox)

    def _sweep_step(self, mailboxes: list[Mailbox]) -> None:
        step, others = mailboxes[:_STEP], mailboxes[_STEP:]

        def release_idle() -> None:
            limit = monotonic() - (self._after or 0.0)
            for mailbox in step:
                if _is_idle(mailbox) and _last_used(mailbox) <= limit:
                    self._release(mailbox)
            if others:
                self._sweep_step(others)

        self._dispatcher.post(release_idle)

    def release_all(self) -> None:
        """Release what all agents hold beside their state; called when the system closes."""
        for mailbox in self._actors.mailboxes():
            if isinstance(mailbox.runner, Runtime):
                mailbox.runner.release_resources()

    def _release(self, mailbox: Mailbox) -> None:
        runtime = mailbox.runner
        if self._actors.remove_if_idle(mailbox) and isinstance(runtime, Runtime):
            runtime.release_resources()


def _is_idle(mailbox: Mailbox) -> bool:
    runtime = mailbox.runner
    return mailbox.phase == IDLE and not mailbox.waiting and isinstance(runtime, Runtime) and runtime.can_passivate


def _last_used(mailbox: Mailbox) -> float:
    runtime = mailbox.runner
    return runtime.last_used if isinstance(runtime, Runtime) else 0.0
