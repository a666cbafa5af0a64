"""Letting idle agents leave memory: they come back by themselves with the next message."""

from __future__ import annotations

from heapq import nsmallest
from time import monotonic
from typing import Final

from .directory import Directory
from .dispatcher import Dispatcher
from .mailbox import IDLE, Mailbox
from .runtime import Runtime

__all__ = ["Passivation"]

_STEP: Final = 2_000
"""Agents looked at before others get the core again."""


class Passivation:
    """Sends agents to rest that were idle for `after` seconds, and the longest idle when there are more than `most`.

    An agent that has a timer, a stash or a message waiting is not idle. What leaves memory leaves nothing behind
    but its log. All of it happens in the core.
    """

    def __init__(self, directory: Directory, dispatcher: Dispatcher, after: float | None, most: int | None) -> None:
        self._directory = directory
        self._dispatcher = dispatcher
        self._after = after
        self._most = most

    def sweep(self) -> None:
        """Look at all agents, a step at a time. Callable from any thread."""
        self._step(self._directory.mailboxes())

    def make_room(self) -> None:
        """Called after an activation: a tenth leaves at once, so that not every activation has to look for one."""
        if self._most is None or len(self._directory) <= self._most:
            return
        idle = [mailbox for mailbox in self._directory.mailboxes() if _rests(mailbox)]
        leaving = len(self._directory) - self._most + self._most // 10
        for mailbox in nsmallest(leaving, idle, key=_last_used):
            self._send_to_rest(mailbox)

    def _step(self, mailboxes: list[Mailbox]) -> None:
        now, rest = mailboxes[:_STEP], mailboxes[_STEP:]

        def look() -> None:
            limit = monotonic() - (self._after or 0.0)
            for mailbox in now:
                if _rests(mailbox) and _last_used(mailbox) <= limit:
                    self._send_to_rest(mailbox)
            if rest:
                self._step(rest)

        self._dispatcher.post(look)

    def _send_to_rest(self, mailbox: Mailbox) -> None:
        runtime = mailbox.runner
        if self._directory.remove_if_idle(mailbox) and isinstance(runtime, Runtime):
            runtime.leave()


def _rests(mailbox: Mailbox) -> bool:
    runtime = mailbox.runner
    return mailbox.phase == IDLE and not mailbox.waiting and isinstance(runtime, Runtime) and runtime.may_rest


def _last_used(mailbox: Mailbox) -> float:
    runtime = mailbox.runner
    return runtime.last_used if isinstance(runtime, Runtime) else 0.0
