"""Replay steps through an agent's past, forward and back, at the same cost for each step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Self

from attrs import evolve, frozen

from duramen.events import Event, EventRegistry, InvalidMessage, Limits
from duramen.events.codec import RawEvent, build_valid_event
from duramen.events.log import EventLog
from duramen.events.model import OWN_TYPES, SPAWNED, copy_event

from ..recovery import MISFITS, AgentLog, FoldOf, Rebuilt, StateFold, misfit, seq_of_time, stored_before, within
from ..state import AgentState, WorkingMemory, copy_tree
from .past_state import PastState

_WINDOW: Final = 256
"""Steps back that are in memory; earlier ones are folded again, this many at a time."""
_FRAMES: Final = 64
"""States elsewhere in the log that are cached to begin from. They share what has not changed between them."""
_SPREAD: Final = 16


@frozen(eq=False, repr=False)
class _Frame:
    """The state at a seq. Never changed: the next one shares with it whatever its event did not change."""

    state: AgentState
    custom: Any


@frozen(eq=False, repr=False)
class _Step:
    event: Event
    frame: _Frame


class Replay:
    """The events `from_seq` to `to_seq` of one agent, each with the state after it. Made by `AgentSystem.replay`.

    Its position is after `seq`, at first before `from_seq`. `step` goes to the next event, `back` to the one before,
    `seek` to any; iterating steps to the end. States are read-only and never change.

    A step costs the same everywhere: some hundred states around the position are in memory, and a few elsewhere to
    begin from; the log is read in pages. Nothing is written. Not thread-safe. Steps raise CorruptEvent,
    UnknownEventType, Trimmed where the log is trimmed meanwhile.
    """

    def __init__(
        self,
        log: EventLog,
        agent: str,
        *,
        registry: EventRegistry,
        limits: Limits,
        fold_of: FoldOf | None = None,
        from_seq: int = 1,
        to_seq: int | None = None,
    ) -> None:
        """Raises AgentNotFound, Trimmed, and InvalidMessage for seqs that are not there."""
        if type(from_seq) is not int or (to_seq is not None and type(to_seq) is not int):
            raise InvalidMessage("from_seq and to_seq are whole numbers", agent=agent)
        self._agent_log = AgentLog(log, agent, limits, registry)
        head = self._agent_log.head()
        self._agent = agent
        self._fold_of = fold_of
        self._memory = WorkingMemory(limits)
        self._base = head.base
        self._from = within(agent, head, from_seq - 1)
        self._to = head.seq if to_seq is None else within(agent, head, to_seq)
        if self._to < self._from:
            raise InvalidMessage("to_seq lies before from_seq", agent=agent, expected=from_seq, actual=to_seq)
        self._frames: dict[int, _Frame] = {}
        self._first = self._frame_at(self._from)  # the state before `_steps`
        self._steps: list[_Step] = []
        self._at = 0  # how many of `_steps` lead to the position
        self._ahead: Iterator[tuple[int, RawEvent, bytes]] | None = None  # continues after the last of `_steps`

    # -- position --------------------------------------------------------------------------------------------------

    @property
    def agent(self) -> str:
        """The agent path, as text."""
        return self._agent

    @property
    def from_seq(self) -> int:
        """The first event."""
        return self._from + 1

    @property
    def to_seq(self) -> int:
        """The last event; events appended while replaying are not part of it."""
        return self._to

    @property
    def seq(self) -> int:
        """The seq of the last event that was stepped over; `from_seq - 1` at the start."""
        return self._first.state.seq + self._at

    @property
    def event(self) -> Event | None:
        """The event at `seq`; None at the start, and where `seek` has just gone to the first seq of all."""
        return copy_event(self._steps[self._at - 1].event) if self._at else None

    @property
    def state(self) -> PastState:
        """The state at `seq`."""
        return self._past(self._steps[self._at - 1].frame if self._at else self._first)

    # -- steps -----------------------------------------------------------------------------------------------------

    def step(self) -> tuple[Event, PastState] | None:
        """Go on by one event: that event, and the state after it. None at the end."""
        if self._at == len(self._steps) and not self._fetch():
            return None
        found = self._steps[self._at]
        self._at += 1
        return copy_event(found.event), self._past(found.frame)

    def back(self) -> tuple[Event, PastState] | None:
        """Go back by one event: that event, and the state before it. None at the start."""
        if self._at == 0:
            if self.seq == self._from:
                return None
            self._go_to(self.seq)
        self._at -= 1
        before = self._steps[self._at - 1].frame if self._at else self._first
        return copy_event(self._steps[self._at].event), self._past(before)

    def seek(self, seq: int | None = None, *, time: datetime | None = None) -> PastState:
        """Go to this seq, or to the last event before `time`; the state there.

        Raises InvalidMessage outside of `from_seq - 1` to `to_seq`. A time outside of them goes to that end.
        """
        if (seq is None) == (time is None) or not _is_time(time):
            raise InvalidMessage("seek takes a seq or a time (aware datetime)", agent=self._agent)
        if time is not None:
            found = seq_of_time(self._agent_log, time)
            seq = min(max(found, self._from), self._to)
        if type(seq) is not int or not self._from <= seq <= self._to:
            raise InvalidMessage(
                f"this replay of {self._agent} stands between {self._from} and {self._to}",
                agent=self._agent,
                actual=seq,
            )
        at = seq - self._first.state.seq
        if 0 <= at <= len(self._steps):
            self._at = at
        else:
            self._go_to(seq)
        return self.state

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Event, PastState]:
        found = self.step()
        if found is None:
            raise StopIteration
        return found

    # -- states around the position --------------------------------------------------------------------------------

    def _past(self, frame: _Frame) -> PastState:
        return PastState(self._agent, frame.state, frame.custom)

    def _fetch(self) -> bool:
        """Fold the next event of the log after the last one in memory; False at the end."""
        last = self._steps[-1].frame if self._steps else self._first
        if last.state.seq >= self._to:
            return False
        if self._ahead is None:
            self._ahead = self._agent_log.events_after(last.state, self._to)
        found = next(self._ahead, None)
        if found is None:
            return False
        self._steps.append(self._after(last, *found))
        if len(self._steps) >= 2 * _WINDOW:
            self._cache(self._first)
            self._first = self._steps[_WINDOW - 1].frame
            del self._steps[:_WINDOW]
            self._at -= _WINDOW
        return True

    def _go_to(self, seq: int) -> None:
        """Fold the states before `seq` into memory, and go there."""
        if self._steps:
            self._cache(self._first)
        self._first = self._frame_at(max(self._from, seq - _WINDOW))
        self._steps, self._at, self._ahead = [], 0, None
        while self.seq + len(self._steps) < seq and self._fetch():
            pass
        self._at = seq - self._first.state.seq

    def _after(self, frame: _Frame, seq: int, raw: RawEvent, digest: bytes) -> _Step:
        event = build_valid_event(self._agent, seq, raw, digest, self._agent_log.registry)
        own = copy_tree(raw[4]) if raw[0] not in OWN_TYPES else None
        try:
            # Only a live agent needs command ids: without them, no step copies thousands.
            state = self._memory.apply(
                frame.state, event if event.command_id is None else evolve(event, command_id=None)
            )
        except MISFITS as error:
            raise misfit(self._agent, seq, error) from None
        return _Step(event, _Frame(state, self._custom_after(frame, state, raw, own)))

    def _custom_after(self, frame: _Frame, state: AgentState, raw: RawEvent, data: Any) -> Any:
        if self._fold_of is None or (raw[0] in OWN_TYPES and raw[0] != SPAWNED):
            return frame.custom
        fold = self._fold_of(state.agent_type)
        if raw[0] == SPAWNED:
            return None if fold is None else fold.initial()
        if fold is None:
            return frame.custom
        return fold.apply(copy_tree(frame.custom), [*raw[:4], data, *raw[5:]])

    # -- states elsewhere ------------------------------------------------------------------------------------------

    def _cache(self, frame: _Frame) -> None:
        """Cache a state to begin from. Of too many, the one farthest from here is dropped."""
        self._frames[frame.state.seq] = frame
        if len(self._frames) > _FRAMES:
            here = frame.state.seq
            del self._frames[max(self._frames, key=lambda seq: abs(seq - here))]

    def _frame_at(self, seq: int) -> _Frame:
        seqs = sorted(self._frames)
        at = bisect_right(seqs, seq)
        known = self._frames[seqs[at - 1]] if at else None
        if known is not None and seq - known.state.seq <= _SPREAD * _WINDOW:
            start = Rebuilt(known.state, known.custom, 0)
        else:
            start = stored_before(self._agent_log, seq=seq, base=self._base, fold_of=self._fold_of)
            if known is not None and known.state.seq >= start.state.seq:
                start = Rebuilt(known.state, known.custom, 0)
        return self._fold_up(start, seq)

    def _fold_up(self, start: Rebuilt, seq: int) -> _Frame:
        """The state at `seq` from an earlier one, caching some on the way."""
        fold = StateFold(self._agent, self._agent_log.limits, self._fold_of, start)
        if start.state.seq < seq:
            fold = StateFold(self._agent, self._agent_log.limits, self._fold_of, fold.copy())
        every = max(_WINDOW, (seq - start.state.seq) // _SPREAD)
        state = fold.state
        for _, raw, digest in self._agent_log.events_after(state, seq):
            fold.apply(raw, digest)
            if (seq - state.seq) % every == 0 and state.seq < seq:
                self._cache(_frame_of(fold.copy()))
        return _frame_of(fold.copy())


def _is_time(value: object) -> bool:
    return value is None or isinstance(value, datetime)


def _frame_of(rebuilt: Rebuilt) -> _Frame:
    return _Frame(rebuilt.state, rebuilt.custom)
