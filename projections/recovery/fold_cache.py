"""Folded states of agents, kept in memory for the next read and brought up to date from the log."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final, TypeVar

from attrs import define, evolve, field

from duramen.events import CorruptEvent, DataLoss, Diverged, Limits, Trimmed
from duramen.events.codec import Codec, decode_items
from duramen.events.feed import LastDigests
from duramen.events.log import EventLog, Page, check_known_event, unknown_agent

from ..state import AgentState
from .agent_log import AgentLog
from .rebuild import rebuild_at_head
from .state_fold import Rebuilt, StateFold

R = TypeVar("R")

MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_POSITIONS: Final = 16_384
_FAR: Final = 1_000
"""More new events than this, and a rebuild from the snapshot is likely to read less."""
_MOST_EVENTS: Final = 1 << 52
_EMPTY_BYTES: Final = 2_048
"""Memory of a state without values."""
_VALUE_BYTES: Final = 64
"""Memory that a value takes beyond its packed bytes."""


@define(eq=False)
class _Fold:
    """The state of one agent. Used under its lock; `position` may be read without."""

    lock: Lock = field(factory=Lock)
    state: AgentState = field(factory=AgentState)
    position: tuple[int, bytes] | None = None
    """Seq and digest of the state; None: the state is not usable."""
    packed: int = 0
    """Bytes of the state when it was last packed, and of the events since."""
    repack_at: int = 0
    """The value of `packed` at which the state is packed again."""

    @property
    def size(self) -> int:
        """An estimate of the state's memory, in bytes."""
        return _EMPTY_BYTES + self.packed + _VALUE_BYTES * self.state.nodes


class FoldCache:
    """States as of the last read, at most `most_bytes` by an estimate; the agents read longest ago leave. Thread-safe.

    It never claims an agent and writes nothing. It also remembers the last event that this process knows of agents,
    kept or not, so that a log which has lost it is noticed at the next read.
    """

    def __init__(self, log: EventLog, limits: Limits, most_bytes: int = MOST_BYTES) -> None:
        self._log = log
        # Command ids are for writers, and would be most of a state's memory.
        self._limits = evolve(limits, commands_remembered=1)
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = Lock()
        self._folds: dict[str, tuple[_Fold, int]] = {}  # and the size that `_bytes` has of it; read longest ago first
        self._positions = LastDigests(_MOST_POSITIONS)

    @property
    def size(self) -> int:
        """Bytes of all states kept, by the estimate."""
        return self._bytes

    def __contains__(self, agent: str) -> bool:
        """Whether a state of the agent is kept, so that a read mostly takes one exchange."""
        return agent in self._folds

    def note(self, agent: str, seq: int, digest: bytes) -> None:
        """Remember an event that the log is known to have."""
        with self._lock:
            self._note(agent, seq, digest)

    def position(self, agent: str) -> tuple[int, bytes] | None:
        """Seq and digest of the last event that is known of an agent; None: nothing is known."""
        with self._lock:
            return self._positions.get(agent)

    def forget(self, agent: str) -> None:
        """Forget an agent's state and its last event."""
        with self._lock:
            self._positions.forget(agent)
            self._remove(agent)

    def read(self, agent: str, look: Callable[[AgentState, Codec], R]) -> R:
        """Call `look` with an agent's state, as the log has it now, and return its result. Blocks.

        Other threads wait for the same state meanwhile: `look` must not block, change the state or keep it.

        Raises AgentNotFound, CorruptEvent, Unavailable, and what `look` raises. Raises DataLoss or Diverged, once, if
        the log has lost the last event known here or has another in its place.
        """
        agent_log = AgentLog(self._log, agent, self._limits)
        fold = self._find(agent)
        before = fold.position
        known = self.position(agent) or before
        page = None if before is None else self._read_after(agent, before)
        with fold.lock:
            try:
                self._bring_up_to_date(agent_log, fold, known, before, page)
            except BaseException as error:
                fold.position = None  # it may have been changed in part
                self._drop(agent, fold, forget=isinstance(error, (DataLoss, Diverged)))
                raise
            self._keep(agent_log, fold)
            return look(fold.state, agent_log.codec)

    # -- from the log ------------------------------------------------------------------------------------------------

    def _read_after(self, agent: str, before: tuple[int, bytes]) -> Page | None:
        """The head and the events after a known one; None if that was trimmed. Raises DataLoss, Diverged."""
        try:
            page = self._log.read(agent, before[0] + 1, _MOST_EVENTS)
            if page is None or page.head.seq <= before[0]:
                check_known_event(self._log, agent, None if page is None else page.head, *before)
        except Trimmed:
            return None
        except (DataLoss, Diverged):
            self.forget(agent)
            raise
        return page

    def _bring_up_to_date(
        self,
        agent_log: AgentLog,
        fold: _Fold,
        known: tuple[int, bytes] | None,
        before: tuple[int, bytes] | None,
        page: Page | None,
    ) -> None:
        """Fold what the log has after the fold's position.

        `page` was read after `before` was the fold's position and `known` the last known event; meanwhile other threads
        may have folded events of it, and later ones.
        """
        agent, at = agent_log.agent, fold.position
        if page is None or at is None or page.head.seq - at[0] > _FAR:
            self._rebuild(agent_log, fold, known)
            return
        if known is not None and known != before:
            check_known_event(self._log, agent, page.head, *known)
        new = page.items[max(0, at[0] + 1 - page.first_seq) :]
        if not new:
            return
        state_fold = StateFold(agent, self._limits, None, Rebuilt(fold.state, None, 0))
        events = decode_items(agent, new, agent_log.codec, self._log.chain, after=at[0], digest=at[1])
        try:
            state_fold.apply_all(events)
            if fold.state.seq < page.head.seq:  # a page is limited
                state_fold.apply_all(agent_log.events_after(fold.state, page.head.seq))
        except CorruptEvent as error:
            if error.seq == at[0] + 1:
                check_known_event(self._log, agent, page.head, *at)
            raise
        fold.position = (fold.state.seq, fold.state.digest)
        fold.packed += sum(map(len, new))

    def _rebuild(self, agent_log: AgentLog, fold: _Fold, known: tuple[int, bytes] | None) -> None:
        head = self._log.head(agent_log.agent)
        if known is not None:
            check_known_event(self._log, agent_log.agent, head, *known)
        if head is None:
            raise unknown_agent(agent_log.agent)
        fold.state = state = rebuild_at_head(agent_log, head).state
        state.commands = {}
        fold.position = (state.seq, state.digest)
        fold.repack_at = 0

    # -- what is kept ------------------------------------------------------------------------------------------------

    def _find(self, agent: str) -> _Fold:
        with self._lock:
            found = self._folds.get(agent)
        return _Fold() if found is None else found[0]

    def _keep(self, agent_log: AgentLog, fold: _Fold) -> None:
        """Note the position of a fold, and keep it unless another of its agent is kept."""
        agent = agent_log.agent
        if fold.packed >= fold.repack_at:
            fold.packed = len(agent_log.codec.pack(fold.state.dump()))
            fold.repack_at = 2 * fold.packed + _EMPTY_BYTES
        size = fold.size
        with self._lock:
            self._note(agent, fold.state.seq, fold.state.digest)
            found = self._folds.get(agent)
            if found is not None and found[0] is not fold:
                return
            self._remove(agent)
            self._folds[agent] = (fold, size)
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._remove(next(iter(self._folds)))

    def _note(self, agent: str, seq: int, digest: bytes) -> None:
        known = self._positions.get(agent)
        if known is None or known[0] <= seq:
            self._positions.note(agent, seq, digest)

    def _drop(self, agent: str, fold: _Fold, *, forget: bool) -> None:
        with self._lock:
            if forget:
                self._positions.forget(agent)
            found = self._folds.get(agent)
            if found is not None and found[0] is fold:
                self._remove(agent)

    def _remove(self, agent: str) -> None:
        found = self._folds.pop(agent, None)
        if found is not None:
            self._bytes -= found[1]
