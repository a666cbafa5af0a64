"""Letting idle agents leave memory: they come back by themselves with the next message."""

from __future__ import annotations

from heapq import nsmallest
from time import monotonic
from typing import Final

from ..dispatch import IDLE, ActorRegistry, Dispatcher, Mailbox
from .runtime import Runtime

__all__ = ["Passivation"]

_INTERVAL: Final = 0.25
_STEP: Final = 2_000
"""Agents looked at before others get the core again."""


class Passivation:
    """Sends agents to rest that were idle for `after` seconds, and the longest idle when there are more than `most`.

    An agent that has a timer, a stash or a message waiting is not idle. What leaves memory leaves nothing behind
    but its log. All of it happens in the core.
    """

    def __init__(self, actors: ActorRegistry, dispatcher: Dispatcher, after: float | None, most: int | None) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._after = after
        self._most = most

    @property
    def interval(self) -> float | None:
        """Seconds between sweeps; None if nothing ever leaves."""
        if self._most is not None:
            return _INTERVAL if self._after is None else min(_INTERVAL, max(0.01, self._after / 4))
        return None if self._after is None else max(0.01, self._after / 4)

    def sweep(self) -> None:
        """Look at all agents, a step at a time. Callable from any thread."""
        self._dispatcher.post(self.release_excess)
        if self._after is not None:
            self._step(self._actors.mailboxes())

    def release_excess(self) -> None:
        """Called after an activation: a tenth leaves at once, so that not every activation has to look for one.

        When all are busy nobody leaves; the next sweep tries again.
        """
        if self._most is None or len(self._actors) <= self._most:
            return
        idle = [mailbox for mailbox in self._actors.mailboxes() if _rests(mailbox)]
        leaving = len(self._actors) - self._most + self._most // 10
        for mailbox in nsmallest(leaving, idle, key=_last_used):
            self._release(mailbox)

    def _step(self, mailboxes: list[Mailbox]) -> None:
        now, rest = mailboxes[:_STEP], mailboxes[_STEP:]

        def look() -> None:
            limit = monotonic() - (self._after or 0.0)
            for mailbox in now:
                if _rests(mailbox) and _last_used(mailbox) <= limit:
                    self._release(mailbox)
            if rest:
                self._step(rest)

        self._dispatcher.post(look)

    def release_all(self) -> None:
        """At the end of the system: let every agent let go of what it has."""
        for mailbox in self._actors.mailboxes():
            if isinstance(mailbox.runner, Runtime):
                mailbox.runner.release_resources()

    def _release(self, mailbox: Mailbox) -> None:
        runtime = mailbox.runner
        if self._actors.remove_if_idle(mailbox) and isinstance(runtime, Runtime):
            runtime.release_resources()


def _rests(mailbox: Mailbox) -> bool:
    runtime = mailbox.runner
    return mailbox.phase == IDLE and not mailbox.waiting and isinstance(runtime, Runtime) and runtime.can_passivate


def _last_used(mailbox: Mailbox) -> float:
    runtime = mailbox.runner
    return runtime.last_used if isinstance(runtime, Runtime) else 0.0
