"""A stored log in segments that can be folded independently, cut at states that the store keeps.

Each segment begins with a stored state and must lead to the state stored at its end. If all segments do, so does the
whole log: the first segment begins where the log begins, and each other one with a state that the one before proves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

from duramen.events import CorruptEvent, Limits
from duramen.events.log import EventLog

from ..recovery import AgentLog, load_base
from ..state import SCHEMA, AgentState

APART: Final = 20_000
"""Events of a segment, at least: fewer are not worth reading a state for."""

_DIGEST_AT: Final = 5
"""Index of the digest in a checkpoint's entry, its last field."""


@frozen
class LogSegment:
    """Events of one agent after the state `begin` (None: from the first) up to `to_seq`, and states they lead to."""

    agent: str
    begin: AgentState | None
    to_seq: int
    states: tuple[AgentState, ...] = ()

    @property
    def after(self) -> int:
        """The seq before its first event."""
        return _seq(self.begin)


class StoredStates:
    """The states that a store has of an agent, as of the construction of this object.

    Raises AgentNotFound, Trimmed (the base has another form, or has moved since), CorruptEvent, and what reading
    raises.
    """

    def __init__(self, log: EventLog, agent: str, limits: Limits) -> None:
        self._agent_log = AgentLog(log, agent, limits)
        self.head = self._agent_log.head()
        base = load_base(self._agent_log) if self.head.base else None
        self.base = None if base is None else base.state
        """The state that replaces trimmed events, or that a fork began with; None: the log is whole."""

    def states(self) -> Iterator[AgentState]:
        """States stored after the base, in order: keyframes that are far apart, and the snapshot.

        States of another form are left out, and keyframes that are damaged or of another history, which readers ignore
        as well. Raises CorruptEvent for a damaged snapshot.
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
            why = f"a snapshot of {agent} has another state than its header says"
            raise CorruptEvent(why, agent=agent, seq=record.seq)
        return state


def log_segments(log: EventLog, agent: str, limits: Limits) -> Iterator[LogSegment]:
    """Segments of an agent's whole log, in order. Reads no events; raises what `StoredStates` raises."""
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


def comparable_state(state: AgentState) -> dict[str, Any]:
    """A state as plain data without digests, which depend on the log's key.

    Command ids are left out too: a setting says how many of them a state remembers.
    """
    held = state.dump()
    del held["digest"], held["commands"]
    checkpoints = {name: entry[:_DIGEST_AT] for name, entry in state.checkpoints.items()}
    return {**held, "granularity": int(state.granularity), "checkpoints": checkpoints}
