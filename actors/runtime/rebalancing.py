"""Rebalancing: when a host joins, idle trees that belong there leave memory, and are given up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Final

from duramen.events.log import HostRecord
from duramen.events.model import root_of

from ..dispatch import IDLE, ActorRegistry, Dispatcher, Mailbox
from ..hosts import Trees, is_better
from .active import Runtime

_IDLE_SECONDS: Final = 1.0
"""An agent that had a message since then is busy: moving it would cost its next caller a recovery."""
_MOST_AT_ONCE: Final = 64
"""Trees that the core releases at once, so that messages are handled between them."""


class Rebalancing:
    """Has the idle trees leave whose place is a host that has joined. Their next message goes there."""

    def __init__(self, actors: ActorRegistry, dispatcher: Dispatcher, trees: Trees) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._trees = trees

    def run(self, here: str, joined: Sequence[HostRecord]) -> int:
        """Look at all trees, and begin to give up those that are to move; returns how many. In a worker thread."""
        moving = list(self._find(here, joined).values())
        for start in range(0, len(moving), _MOST_AT_ONCE):
            self._dispatcher.post(partial(self._release, moving[start : start + _MOST_AT_ONCE]))
        return len(moving)

    def _find(self, here: str, joined: Sequence[HostRecord]) -> dict[str, list[Mailbox]]:
        """By root: the agents in memory of each tree that is idle and belongs to another host."""
        moving: dict[str, list[Mailbox]] = {}
        staying: set[str] = set()
        limit = monotonic() - _IDLE_SECONDS
        for page in self._actors.pages():
            for mailbox in page:
                root = root_of(mailbox.path)
                if root in staying:
                    continue
                if _may_leave(mailbox, limit) and _belongs_elsewhere(mailbox.runner, root, here, joined):
                    moving.setdefault(root, []).append(mailbox)
                else:
                    staying.add(root)
                    moving.pop(root, None)
        return moving

    def _release(self, trees: Sequence[Sequence[Mailbox]]) -> None:
        """Release what is idle still; in the core. Agents that have been passivated since they were found are gone."""
        now = monotonic()
        for tree in trees:
            mailboxes = [mailbox for mailbox in tree if mailbox.runner is not None]
            if all(_may_leave(mailbox, now) for mailbox in mailboxes):
                for mailbox in mailboxes:
                    runner = mailbox.runner
                    if isinstance(runner, Runtime) and self._actors.remove_if_idle(mailbox):
                        runner.release_resources()
        self._trees.release_empty()


def _may_leave(mailbox: Mailbox, limit: float) -> bool:
    runner = mailbox.runner
    idle = mailbox.phase == IDLE and not mailbox.waiting
    return idle and isinstance(runner, Runtime) and runner.can_passivate and runner.last_used <= limit


def _belongs_elsewhere(runner: object, root: str, here: str, joined: Sequence[HostRecord]) -> bool:
    if not isinstance(runner, Runtime):
        return False
    needed = runner.state.agent_type if runner.needs_class else None
    return any(
        (needed is None or needed in record.agent_types) and is_better(root, record.host, here) for record in joined
    )
