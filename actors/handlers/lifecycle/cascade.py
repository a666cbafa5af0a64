"""Lifecycle messages to an agent and all its sub-agents at one point in time.

The agents of a tree are held, parents first: each finishes its turn and begins no other. While all are held, nothing
in the tree can change, so a message that is then handled in each of them acts on one consistent cut. Messages between
them that were sent before stay in the mailboxes and are handled afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from itertools import groupby
from time import monotonic
from typing import Any, Final

from duramen.events import AgentFailed, AgentNotFound, AskTimeout, DuramenError, Unconfirmed
from duramen.events.codec import Codec
from duramen.projections import AgentState
from duramen.projections.state import ABSENT, TERMINATED_STATUS

from ...commands import Hold, LifecycleResult
from ...dispatch import Envelope
from ..turn import ActiveAgent, Turn

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

    @property
    def states(self) -> dict[str, AgentState]:
        """The states of the members by path, which do not change while they are held."""
        return {member.path: member.state for member in self._members}

    def handle(
        self,
        message: object,
        handler: Callable[[Turn, Any], Any],
        *,
        children_first: bool = False,
        only: Collection[str] | None = None,
    ) -> dict[str, LifecycleResult]:
        """Handle a lifecycle message in every member, or in those of `only`; release all; the results by path.

        All members decide before one of them commits: an error that is not an expected failure is raised, and nothing
        was done. Then it blocks until all are committed, and raises the first error of a commit.
        """
        turns: list[Turn] = []
        try:
            for runtime in reversed(self._members) if children_first else self._members:
                if only is None or runtime.path in only:
                    turn = Turn(runtime, Codec(runtime.services.limits))
                    turns.append(turn)
                    envelope = Envelope(message)
                    envelope.tries = runtime.services.settings.fenced_tries  # alone it must not be handled again
                    turn.stage(envelope, handler(turn, message))
        except BaseException as error:
            self._release_others(turns)
            _discard(turns, error)
            raise
        self._release_others(turns)
        # Together, unless no end may be there before those below it.
        levels = [
            list(level) for _, level in groupby(turns, lambda turn: turn.agent.count("/") if children_first else 0)
        ]
        results: dict[str, LifecycleResult] = {}
        for number, level in enumerate(levels, 1):
            try:
                results.update(_commit(level))
            except BaseException as error:
                _discard([turn for later in levels[number:] for turn in later], error)
                raise
        return results

    def release(self) -> None:
        """Release the members that have handled no message."""
        self._release_others([])

    def _release_others(self, turns: list[Turn]) -> None:
        members, self._members = self._members, []
        handled = {turn.agent for turn in turns}
        for runtime in members:
            if runtime.path not in handled:
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
            paths = [path for parent in level for path in children_of(parent, all_children=all_children)]
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


def children_of(parent: ActiveAgent, *, all_children: bool) -> list[str]:
    """The sub-agents that a log names, as far as they are below their parent: a file or an import may name others."""
    below = f"{parent.path}/"
    children = parent.state.children.items()
    return [path for path, outlives in children if path.startswith(below) and (all_children or not outlives)]


def _hold(root: ActiveAgent, paths: list[str], deadline: float) -> list[ActiveAgent]:
    sent: list[Envelope] = []
    held: list[ActiveAgent] = []
    try:
        for path in paths:
            envelope = Envelope(Hold())
            root.services.actors.send(path, envelope)
            sent.append(envelope)
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


def _commit(turns: list[Turn]) -> dict[str, LifecycleResult]:
    """Commit turns together and wait for the results. Raises the first error of a commit."""

    def finish() -> None:
        for turn in turns:
            turn.runtime.finish(turn)

    turns[0].runtime.services.dispatcher.post(finish)
    results: dict[str, LifecycleResult] = {}
    for turn in turns:
        try:
            results[turn.agent] = turn.envelopes[0].get(timeout=_TIMEOUT)
        except Unconfirmed as error:  # committed all the same: to stop here would leave half a tree
            results[turn.agent] = LifecycleResult(success=True, event_type="", message=str(error), error=error)
    return results


def _discard(turns: list[Turn], error: BaseException) -> None:
    """Forget what members have decided: those whose state it has changed come back from their logs."""
    failure = error if isinstance(error, DuramenError) else AgentFailed("a cascade was given up")

    def settle() -> None:
        for turn in turns:
            if turn.items:
                turn.runtime.settle(turn, failure)
            else:
                turn.runtime.release()

    if turns:
        turns[0].runtime.services.dispatcher.post(settle)
