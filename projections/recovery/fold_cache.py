"""Folded states of agents, kept in memory for the next read and brought up to date from the log."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, local
from typing import Final, TypeVar

from attrs import define, evolve, field

from duramen.events import CorruptEvent, DataLoss, Diverged, Erased, Limits, Trimmed
from duramen.events.codec import Codec, decode_items
from duramen.events.feed import LastDigests
from duramen.events.log import EventLog, Head, Page, check_known_event, unknown_agent

from ..state import AgentState
from .agent_log import AgentLog
from .rebuild import rebuild_at_head
from .state_fold import StateFold

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
    """The state of one agent. Used under its lock; `head` may be read without."""

    states: StateFold
    lock: Lock = field(factory=Lock)
    head: Head | None = None
    """The head that the state was folded to; None: the state is not usable."""
    packed: int = 0
    """Bytes of the state when it was last packed, and of the events since."""
    repack_at: int = 0
    """The value of `packed` at which the state is packed again."""

    @property
    def state(self) -> AgentState:
        return self.states.state

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
        self._codecs = local()
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
        the log has lost the last event known here or has another in its place, Erased if that was wanted.
        """
        fold, before, known = self._find(agent)
        page = None if before is None else self._read_after(agent, before)
        codec = self._codec()
        with fold.lock:
            try:
                if page is None or fold.head is None or page.head.seq - fold.head.seq > _FAR:
                    self._rebuild(agent, fold, known, codec)
                else:
                    if known is not None and before is not None and known != (before.seq, before.digest):
                        check_known_event(self._log, agent, page.head, *known)
                    self._apply(agent, fold, page, codec)
            except BaseException as error:
                fold.head = None  # the state may have been changed in part
                self._drop(agent, fold, forget=isinstance(error, (DataLoss, Diverged, Erased)))
                raise
            self._keep(agent, fold, codec)
            return look(fold.state, codec)

    # -- from the log ------------------------------------------------------------------------------------------------

    def _read_after(self, agent: str, before: Head) -> Page | None:
        """The events after a head; None if they were trimmed. Raises DataLoss, Diverged."""
        try:
            page = self._log.read(agent, before.seq + 1, _MOST_EVENTS, seen=before)
            if page is None or page.head.seq <= before.seq:
                check_known_event(self._log, agent, None if page is None else page.head, before.seq, before.digest)
        except Trimmed:
            return None
        except (DataLoss, Diverged, Erased):
            self.forget(agent)
            raise
        return page

    def _apply(self, agent: str, fold: _Fold, page: Page, codec: Codec) -> None:
        """Fold the events of a page that come after the fold's head, and those behind it up to the page's head.

        Other threads may have folded some of them, and later ones, since the page was asked for.
        """
        state, head = fold.state, page.head
        seq, digest = state.seq, state.digest
        if head.seq > seq:
            new = page.items[seq + 1 - page.first_seq :]
            try:
                fold.states.apply_all(decode_items(agent, new, codec, self._log.chain, after=seq, digest=digest))
                if state.seq < head.seq:  # a page is limited
                    agent_log = AgentLog(self._log, agent, self._limits, codec=codec)
                    fold.states.apply_all(agent_log.events_after(state, head.seq))
            except CorruptEvent as error:
                if error.seq == seq + 1:
                    check_known_event(self._log, agent, head, seq, digest)
                raise
            fold.packed += sum(map(len, new))
        if head.seq >= seq:
            fold.head = head

    def _rebuild(self, agent: str, fold: _Fold, known: tuple[int, bytes] | None, codec: Codec) -> None:
        head = self._log.head(agent)
        if known is not None:
            check_known_event(self._log, agent, head, *known)
        if head is None:
            raise unknown_agent(agent)
        rebuilt = rebuild_at_head(AgentLog(self._log, agent, self._limits, codec=codec), head)
        rebuilt.state.commands = {}
        fold.states = StateFold(agent, self._limits, None, rebuilt)
        fold.head = head
        fold.repack_at = 0

    def _codec(self) -> Codec:
        """The codec of this thread."""
        codec: Codec | None = getattr(self._codecs, "codec", None)
        if codec is None:
            self._codecs.codec = codec = Codec(self._limits)
        return codec

    # -- what is kept ------------------------------------------------------------------------------------------------

    def _find(self, agent: str) -> tuple[_Fold, Head | None, tuple[int, bytes] | None]:
        """The fold of an agent, the head it was folded to, and the last event that is known."""
        with self._lock:
            found = self._folds.get(agent)
            known = self._positions.get(agent)
        if found is None:
            return _Fold(StateFold(agent, self._limits, None)), None, known
        fold = found[0]
        before = fold.head
        return fold, before, known if known is not None or before is None else (before.seq, before.digest)

    def _keep(self, agent: str, fold: _Fold, codec: Codec) -> None:
        """Note the position of a fold, and keep it unless another of its agent is kept."""
        if fold.packed >= fold.repack_at:
            fold.packed = len(codec.pack(fold.state.dump()))
            fold.repack_at = 2 * fold.packed + _EMPTY_BYTES
        size = fold.size
        with self._lock:
            self._note(agent, fold.state.seq, fold.state.digest)
            found = self._folds.pop(agent, None)
            if found is not None and found[0] is not fold:
                self._folds[agent] = found
                return
            self._folds[agent] = (fold, size)  # as the one read last
            self._bytes += size if found is None else size - found[1]
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
