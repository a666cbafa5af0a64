"""Marks at any seq: folded from those that are stored beside a keyframe, and stored beside the keyframes passed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from attrs import field, frozen

from duramen.events import CorruptEvent, DuramenError, Trimmed
from duramen.events.logging import get_logger
from duramen.events.model import MEMORY_RESTORED, PAUSED, RESUMED

from ..recovery import EVERY, MISFITS, SETTERS_SCHEMA, AgentLog, Rebuilt, StateFold, rebuild
from ..state import AgentState
from .fork import available_origin, rebuild_start
from .marks import FrozenMarks, InOrigin, Marks

_DEEPEST: Final = 32
"""How many checkpoints, each of which was resumed from another's time, are looked at one from the other."""
_TRIES: Final = 8
"""How many stored marks that cannot be used are passed over before the first event is gone back to."""


@frozen(eq=False)
class MarkedState:
    """A state and the marks of its values."""

    state: AgentState
    marks: Marks


class _NotCopied(Exception):
    """The marks at a checkpoint are needed, and were not copied."""


@frozen(eq=False)
class _Copies:
    """The marks at checkpoints, from each until it is resumed from for the last time."""

    last_resumes: Mapping[int, int]
    """By the seq of the checkpoint."""
    _held: dict[int, FrozenMarks] = field(factory=dict[int, FrozenMarks])

    def copy_at(self, seq: int, marks: Marks) -> None:
        if seq in self.last_resumes:
            self._held[seq] = marks.freeze()

    def use(self, checkpoint: int, resumed: int) -> FrozenMarks | None:
        is_last = self.last_resumes.get(checkpoint) == resumed
        return self._held.pop(checkpoint, None) if is_last else self._held.get(checkpoint)


class MarkReader:
    """Finds the marks of one agent's values at a seq. For one question; not thread-safe.

    Begins with the last keyframe that has marks beside it, and puts them beside those that it passes: the next question
    is as quick as a look at a state. Where it may not write, or nothing is stored, it only takes longer.
    """

    def __init__(self, agent_log: AgentLog) -> None:
        """Raises AgentNotFound, CorruptEvent."""
        self._agent_log = agent_log
        self.origin = available_origin(agent_log)
        """The origin of a fork, where its log still has what the fork continues."""
        self.base = agent_log.head().base if self.origin is None else self.origin.seq
        """The seq at which the first marks are given."""
        self._frozen: dict[int, FrozenMarks] = {}
        """The marks at checkpoints of before the events that were folded."""
        self._depth = 0
        self._stores = True

    def read(self, to_seq: int) -> MarkedState:
        """State and marks at `to_seq`. Raises Trimmed if the log begins after that, and what reading raises."""
        start = self._start(to_seq, self.base if self._depth > _DEEPEST else to_seq)
        start_seq = start.state.seq
        try:
            return self._fold(start, to_seq, None)
        except _NotCopied:
            # State and marks were folded in place. Where the stored ones have gone, the next start is an earlier one.
            start = self._start(to_seq, start_seq)
            return self._fold(start, to_seq, self._find_resumes(start.state, to_seq))

    # -- where to start --------------------------------------------------------------------------------------------

    def _start(self, to_seq: int, latest: int) -> MarkedState:
        """The last stored marks no later than `latest`, or those of the first values. Raises Trimmed."""
        start = self._load(latest) or self._begin()
        agent, seq = self._agent_log.agent, start.state.seq
        if to_seq < seq:
            raise Trimmed(
                f"events up to {seq} of {agent} were trimmed, so what has set its values is known from {seq} on",
                agent=agent,
                expected=to_seq,
                actual=seq + 1,
            )
        return start

    def _begin(self) -> MarkedState:
        start = rebuild_start(self._agent_log, self.origin)
        base = self.base = start.state.seq  # the log may have been trimmed since its head was read
        memory = start.state.memory
        in_origin = self.origin is not None
        marks = Marks.of_values(self._agent_log.agent, memory, lambda path: InOrigin(path) if in_origin else base)
        return MarkedState(start.state, marks)

    def _load(self, latest: int) -> MarkedState | None:
        """The last stored marks that are no later than `latest`; None where there are none that can be used."""
        agent_log = self._agent_log
        for _ in range(_TRIES):
            found = agent_log.log.archive.setters_before(agent_log.agent, latest) if latest > self.base else None
            if found is None or found[0] <= self.base:
                return None
            marked = self._unpack(*found)
            if marked is not None:
                return marked
            latest = found[0] - 1
        return None

    def _unpack(self, at: int, keyframe: bytes, stored: bytes) -> MarkedState | None:
        """State and marks in what is stored of a seq; None if that is damaged, of another form or another history."""
        agent_log = self._agent_log
        try:
            record = agent_log.unpack_snapshot(stored)
            fields = record.state
            if record.schema != SETTERS_SCHEMA or fields["of_fork"] is not (self.origin is not None):
                return None
            state = rebuild(agent_log, to_seq=at, snapshot=keyframe).state
            if (record.seq, record.digest) != (state.seq, state.digest):
                return None  # of another history
            return MarkedState(state, Marks.load(agent_log.agent, fields, state.memory, at))
        except (CorruptEvent, *MISFITS) as error:
            _log("setters_ignored", agent_log.agent, at, error)
            return None

    # -- folding ---------------------------------------------------------------------------------------------------

    def _fold(self, start: MarkedState, to_seq: int, copies: _Copies | None) -> MarkedState:
        """The marks at `to_seq`. Raises _NotCopied where those at a checkpoint on the way are needed."""
        agent_log, marks, start_seq = self._agent_log, start.marks, start.state.seq
        values = StateFold(agent_log.agent, agent_log.limits, None, Rebuilt(start.state, None, 0))
        keyframes: Collection[int] = ()
        if self._stores and to_seq - start_seq >= EVERY:
            keyframes = frozenset(agent_log.log.archive.keyframes(agent_log.agent))
        restored: set[int] = set()
        for seq, raw, digest in agent_log.events_after(start.state, to_seq):
            marks.apply(seq, raw)
            values.apply(raw, digest)
            if raw[0] == MEMORY_RESTORED:
                restored.add(seq)
            elif raw[0] == PAUSED and copies is not None:
                copies.copy_at(seq, marks)
            elif raw[0] == RESUMED and restored:
                checkpoint = raw[4].get("checkpoint_seq")
                before = self._marks_before(seq, checkpoint, start_seq, copies)
                if before is not None:
                    marks.carry(seq, checkpoint, restored, before)
                restored = set()
            if self._stores and seq in keyframes and not restored:
                self._store(values.state, marks)
        return MarkedState(values.state, marks)

    def _marks_before(
        self, resumed: int, checkpoint: object, start_seq: int, copies: _Copies | None
    ) -> FrozenMarks | None:
        """The marks at the checkpoint of a resume; None where the log does not have that."""
        if type(checkpoint) is not int or not self.base < checkpoint < resumed:
            return None
        if checkpoint <= start_seq:
            return self._at_checkpoint(checkpoint)
        if copies is None:
            raise _NotCopied
        return copies.use(checkpoint, resumed)

    def _at_checkpoint(self, seq: int) -> FrozenMarks:
        if seq not in self._frozen:
            self._depth += 1
            self._frozen[seq] = self.read(seq).marks.freeze()
            self._depth -= 1
        return self._frozen[seq]

    def _find_resumes(self, start: AgentState, to_seq: int) -> _Copies:
        """The checkpoints that are resumed from between a state and a seq, each with the last resume."""
        events = self._agent_log.events_after(start, to_seq)
        return _Copies({raw[4].get("checkpoint_seq"): seq for seq, raw, _ in events if raw[0] == RESUMED})

    def _store(self, state: AgentState, marks: Marks) -> None:
        agent_log = self._agent_log
        fields = {"of_fork": self.origin is not None, **marks.dump()}
        try:
            agent_log.log.archive.keep_setters(agent_log.agent, state.seq, agent_log.pack_setters(state, fields))
        except DuramenError as error:  # it may not be written, or is too large: reading takes longer, and no more
            self._stores = False
            _log("setters_not_kept", agent_log.agent, state.seq, error)


def _log(event: str, agent: str, seq: int, error: Exception) -> None:
    get_logger("blame").info(event, agent=agent, seq=seq, reason=type(error).__name__)
