"""Lifecycle messages to an agent and all its sub-agents at one point in time.

The agents of a tree are held, parents first: each finishes its turn and begins no other. While all are held, nothing
in the tree can change, so a message that is then handled in each of them acts on one consistent cut. Messages between
them that were sent before stay in the mailboxes and are handled afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

from duramen.events import AgentNotFound, AskTimeout
from duramen.events.codec import Codec
from duramen.projections.state import ABSENT, TERMINATED_STATUS

from ..commands import Hold, LifecycleResult
from ..dispatch import Envelope
from .turn import ActiveAgent, Turn

__all__ = ["HeldTree", "held_tree", "hold"]

_TIMEOUT: Final = 25.0
"""Seconds until the whole tree is held; a caller waits 30 for its reply by default."""


def hold(turn: Turn, message: Hold) -> ActiveAgent:
    """Hold the agent after this turn, until `release`. Raises AgentNotFound."""
    if turn.state.status == ABSENT:
        raise AgentNotFound(f"there is no agent {turn.runtime.path}", agent=turn.runtime.path)
    turn.hold = True
    return turn.runtime


class HeldTree:
    """The held sub-agents of one agent, parents before children."""

    def __init__(self, members: list[ActiveAgent]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def handle(
        self, message: object, handler: Callable[[Turn, Any], Any], *, children_first: bool = False
    ) -> dict[str, LifecycleResult]:
        """Handle a lifecycle message in every member, release them, and return the results by path.

        Blocks until all are committed. Raises the first error that is not an expected failure.
        """
        members, self._members = self._members, []
        turns: list[Turn] = []
        for runtime in reversed(members) if children_first else members:
            turn = Turn(runtime, Codec(runtime.services.limits))
            turn.handle(Envelope(message), handler)
            turns.append(turn)
        if members:
            members[0].services.dispatcher.post(lambda: _finish(turns))
        results: dict[str, LifecycleResult] = {}
        for turn in turns:
            results[turn.runtime.path] = turn.envelopes[0].get(timeout=_TIMEOUT)
        return results

    def release(self) -> None:
        """Release the members that have handled no message."""
        members, self._members = self._members, []
        for runtime in members:
            runtime.services.dispatcher.post(runtime.release)


@contextmanager
def held_tree(runtime: ActiveAgent, *, all_children: bool = True) -> Generator[HeldTree]:
    """Hold the sub-agents of an agent that is handling a message in a worker thread.

    `all_children=False` leaves out those that may outlive their parent. Raises AskTimeout if not all are held in time;
    those that are held are then released.
    """
    deadline = monotonic() + _TIMEOUT
    members: list[ActiveAgent] = []
    level = [runtime]
    try:
        while level:
            paths = [path for parent in level for path in _children(parent, all_children=all_children)]
            level = _hold(runtime, paths, deadline)
            members += level
        living = [member for member in members if member.state.status != TERMINATED_STATUS]
        HeldTree([member for member in members if member.state.status == TERMINATED_STATUS]).release()
        members = []
        tree = HeldTree(living)
    except BaseException:
        HeldTree(members).release()
        raise
    try:
        yield tree
    finally:
        tree.release()


def _children(parent: ActiveAgent, *, all_children: bool) -> list[str]:
    """The sub-agents that a log names, as far as they are below their parent: a file or an import may name others."""
    below = f"{parent.path}/"
    children = parent.state.children.items()
    return [path for path, outlives in children if path.startswith(below) and (all_children or not outlives)]


def _hold(root: ActiveAgent, paths: list[str], deadline: float) -> list[ActiveAgent]:
    sent: list[Envelope] = []
    held: list[ActiveAgent] = []
    for path in paths:
        envelope = Envelope(Hold())
        root.services.actors.send(path, envelope)
        sent.append(envelope)
    try:
        for envelope in sent:
            try:
                held.append(envelope.get(timeout=max(0.0, deadline - monotonic())))
            except AgentNotFound:
                continue  # the parent has adopted a child whose spawn never happened
    except BaseException as error:
        for envelope in sent:
            _release_when_held(envelope)
        if isinstance(error, AskTimeout):
            raise AskTimeout(f"the tree of {root.path} could not be held in time", agent=root.path) from None
        raise
    return held


def _release_when_held(envelope: Envelope) -> None:
    def release() -> None:
        held = envelope.value
        if held is not None:
            held.services.dispatcher.post(held.release)

    envelope.add_done_callback(release)


def _finish(turns: list[Turn]) -> None:
    for turn in turns:
        turn.runtime.finish(turn)
