"""A stored log in pieces that can be folded by themselves: cut where states of it are kept.

Each piece begins with the state that is kept at its beginning, and is to lead to the one that is kept at its end. Where
all pieces do, the whole log does: the first one begins where the log begins, and each next one with what was proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

from duramen.events import CorruptEvent, Limits
from duramen.events.log import EventLog

from ..recovery import AgentLog, load_base
from ..state import SCHEMA, AgentState

__all__ = ["APART", "LogSegment", "StoredStates", "comparable", "log_segments"]

APART: Final = 20_000
"""Events between two keyframes that count, at least: what comes before is to be worth reading a state for."""

_DIGEST_BEFORE: Final = 5
"""Where a checkpoint's entry has a digest, the last thing in it."""


@frozen
class LogSegment:
    """Events of one agent from behind `begin` (None: from the first on) up to `to_seq`, and states they lead to."""

    agent: str
    begin: AgentState | None
    to_seq: int
    states: tuple[AgentState, ...] = ()

    @property
    def after(self) -> int:
        """The seq that it begins behind."""
        return _seq(self.begin)


class StoredStates:
    """What a store keeps of an agent's past beside its events, as it is when this is made.

    Raises AgentNotFound, Trimmed (the base is of another form, or moved meanwhile), CorruptEvent, and what reading
    raises.
    """

    def __init__(self, log: EventLog, agent: str, limits: Limits) -> None:
        self._agent_log = AgentLog(log, agent, limits)
        self.head = self._agent_log.head()
        base = load_base(self._agent_log) if self.head.base else None
        self.base = None if base is None else base.state
        """What stands in for the events that were trimmed, or that a fork began with; None: the log is whole."""

    def states(self) -> Iterator[AgentState]:
        """States that were stored behind the base, in order: keyframes that are far apart, and the snapshot.

        Those of another form are left out, and of keyframes those that are damaged or belong to another history:
        nobody uses these. Raises CorruptEvent for a damaged snapshot.
        """
        archive, agent, head, base = self._agent_log.log.archive, self._agent_log.agent, self.head, _seq(self.base)
        stored = self._agent_log.snapshot()
        snapshot = None if stored is None else self._state_in(stored)
        last, end = base, head.seq if snapshot is None else min(snapshot.seq - 1, head.seq)
        for seq in archive.keyframes(agent) if end - base >= APART else ():
            if last + APART <= seq <= end:
                state = self._keyframe(seq)
                if state is not None:
                    yield state
                    last = seq
        if snapshot is not None and base < snapshot.seq <= head.seq:
            yield snapshot

    def _keyframe(self, seq: int) -> AgentState | None:
        stored = self._agent_log.log.archive.keyframe(self._agent_log.agent, seq)
        try:
            state = None if stored is None else self._state_in(stored)
        except CorruptEvent:
            return None
        return state if state and state.seq == seq and state.digest == self._agent_log.digest_at(seq) else None

    def _state_in(self, stored: bytes) -> AgentState | None:
        """The state in a snapshot; None if that is of another form. Raises CorruptEvent."""
        record = self._agent_log.unpack_snapshot(stored)
        if record.schema != SCHEMA:
            return None
        try:
            state = AgentState.load(record.state["agent"])
        except (KeyError, TypeError, ValueError):
            state = None
        if state is None or (state.seq, state.digest) != (record.seq, record.digest):
            agent = self._agent_log.agent
            raise CorruptEvent(f"a snapshot of {agent} holds another state than it says", agent=agent, seq=record.seq)
        return state


def log_segments(log: EventLog, agent: str, limits: Limits) -> Iterator[LogSegment]:
    """All of an agent's log as it is now, in order. Reads no events; raises what `StoredStates` raises."""
    past = StoredStates(log, agent, limits)
    begin, passed = past.base, list[AgentState]()
    for state in past.states():
        passed.append(state)
        if state.seq - _seq(begin) >= APART:
            yield LogSegment(agent, begin, state.seq, tuple(passed))
            begin, passed = state, []
    if past.head.seq > _seq(begin):
        yield LogSegment(agent, begin, past.head.seq, tuple(passed))


def _seq(state: AgentState | None) -> int:
    return 0 if state is None else state.seq


def comparable(state: AgentState) -> dict[str, Any]:
    """What two folds of the same events have in common, as plain data: no digests, which need not be of one chain.

    Nor command ids: how many of them are remembered is a setting, and nothing else comes of them.
    """
    held = state.dump()
    del held["digest"], held["commands"]
    checkpoints = {name: entry[:_DIGEST_BEFORE] for name, entry in state.checkpoints.items()}
    return {**held, "granularity": int(state.granularity), "checkpoints": checkpoints}
