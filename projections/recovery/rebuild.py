"""An agent's state from its log: the latest usable snapshot, then every event after it.

There is one path: without a snapshot the fold starts from nothing, or from the state at the base of a trimmed log, and
then replays from the next seq just the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from duramen.events import CorruptEvent, Trimmed
from duramen.events.codec import RawEvent
from duramen.events.log import Head, check_last_event
from duramen.events.logging import get_logger

from ..state import SCHEMA, AgentState
from .agent_log import AgentLog
from .session_count import SessionCount
from .state_fold import FoldOf, Rebuilt, StateFold
from .trim_base import UNFOLDED, BaseState, load_base

_TRIES: Final = 5


def rebuild(
    agent_log: AgentLog,
    *,
    fold_of: FoldOf | None = None,
    to_seq: int | None = None,
    use_snapshot: bool = True,
    snapshot: bytes | None = None,
    head: Head | None = None,
) -> Rebuilt:
    """State of an agent at its head, or at `to_seq`. `snapshot` is one more that may be nearer than the automatic one.

    With a `head` the caller checks that the log ends as that says: a snapshot of that event is not looked for in it.
    Raises AgentNotFound, CorruptEvent, UnknownEventType, and Trimmed if `to_seq` lies before the events that are left.
    """
    snapshots: list[Rebuilt] = []
    for stored in (snapshot, agent_log.snapshot()) if use_snapshot else ():
        usable = None if stored is None else _usable(agent_log, stored, fold_of=fold_of, to_seq=to_seq)
        snapshots += [] if usable is None else [usable]
    snapshots.sort(key=lambda each: each.state.seq)
    base: Rebuilt | None = None
    for _ in range(_TRIES):
        is_checked = base is not None or not snapshots
        start = snapshots.pop() if not is_checked else base or Rebuilt(AgentState(), None, 0)
        seq, digest = start.state.seq, start.state.digest
        try:
            fold = StateFold(agent_log.agent, agent_log.limits, fold_of, start)
            fold.apply_all(agent_log.raw_events(seq, digest, to_seq))
        except Trimmed:  # the start, or the next event while it was replayed
            base = _at_base(agent_log, fold_of=fold_of, to_seq=to_seq)
            continue
        except CorruptEvent as error:
            if is_checked or error.seq != seq + 1 or _has(agent_log, seq, digest):
                raise
            continue
        # Where events followed, the digest of the first has shown that the log has that of the snapshot.
        is_checked = (
            is_checked or fold.state.seq > seq or (head is not None and (seq, digest) == (head.seq, head.digest))
        )
        if is_checked or _has(agent_log, seq, digest):
            return Rebuilt(fold.state, fold.custom, seq)
    raise Trimmed(f"{agent_log.agent} is trimmed faster than it can be read; try again", agent=agent_log.agent)


def rebuild_at_head(agent_log: AgentLog, head: Head, fold_of: FoldOf | None = None) -> Rebuilt:
    """State of an agent at a head that was read before; the last event is checked also if the snapshot has it.

    Raises what `rebuild` raises, and CorruptEvent if the log does not end where the head says.
    """
    rebuilt = rebuild(agent_log, fold_of=fold_of, to_seq=head.seq, head=head)
    state = rebuilt.state
    if (state.seq, state.digest) != (head.seq, head.digest):
        raise CorruptEvent(
            f"the log of {agent_log.agent} does not end where its head says; restore it from a backup",
            agent=agent_log.agent,
            seq=state.seq,
            expected=head.digest.hex(),
            actual=state.digest.hex(),
        )
    if rebuilt.snapshot_seq == head.seq:  # no event was read
        check_last_event(agent_log.log, agent_log.agent, head)
    return rebuilt


def rebuild_base(agent_log: AgentLog) -> Rebuilt:
    """The state at the base, which the first event that is left continues. Raises AgentNotFound, CorruptEvent."""
    return rebuild(agent_log, to_seq=agent_log.head().base, use_snapshot=False)


def state_for_base(agent_log: AgentLog, *, to_seq: int, before: int | None = None, fold_of: FoldOf) -> BaseState:
    """The state to keep of an agent when its log is trimmed up to `to_seq`, or to its first event not before `before`.

    `before` is in µs. Reads and checks every event that is to go. Where nothing may go it is the base there was. Raises
    what `rebuild` raises.
    """
    start = load_base(agent_log) or BaseState(AgentState())
    state = start.state
    count = SessionCount(agent_log, start.totals)
    custom = _custom_at(agent_log.agent, start, fold_of)
    fold = StateFold(agent_log.agent, agent_log.limits, fold_of, Rebuilt(state, custom, 0))
    fold.apply_all(_counted(agent_log.events_after(state, max(to_seq, state.seq)), count, before))
    version = None if count.is_new_session else start.custom_version
    if count.has_custom_events:
        version = UNFOLDED if fold.custom_version is None else fold.custom_version
    forked_at = None if start.forked_at is None or start.forked_at <= state.seq else start.forked_at
    return BaseState(state, fold.custom, version, count.totals, forked_at)


def _counted(
    events: Iterable[tuple[int, RawEvent, bytes]], count: SessionCount, before: int | None
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """The events older than `before`, each added to the count."""
    for seq, raw, digest in events:
        if before is not None and raw[3] >= before:
            return
        count.add(seq, raw, digest)
        yield seq, raw, digest


# -- where to start ----------------------------------------------------------------------------------------------------


def _usable(agent_log: AgentLog, stored: bytes, *, fold_of: FoldOf | None, to_seq: int | None) -> Rebuilt | None:
    """The states in a snapshot, if its bytes are whole, its form is today's, and it is not after `to_seq`.

    Does not check that the log has the snapshot's digest at its seq.
    """
    agent = agent_log.agent
    try:
        record = agent_log.unpack_snapshot(stored)
        if record.schema != SCHEMA:
            return None  # of other code: nothing is wrong with it
        state = AgentState.load(record.state["agent"])
        custom, version = record.state["custom"], record.state["custom_version"]
    except (CorruptEvent, KeyError, TypeError) as error:
        _log_ignored(agent, f"it does not decode ({type(error).__name__})")
        return None
    if (state.seq, state.digest) != (record.seq, record.digest):
        _log_ignored(agent, "its state has another seq than it says")
        return None
    fold = None if fold_of is None else fold_of(state.agent_type)
    if (fold is not None and not fold.reads(version)) or (to_seq is not None and state.seq > to_seq):
        return None
    return Rebuilt(state, custom, state.seq)


def _has(agent_log: AgentLog, seq: int, digest: bytes) -> bool:
    """Whether the log has this digest at a seq."""
    try:
        found = agent_log.digest_at(seq)
    except Trimmed:
        return False  # older than the state at the base
    if found != digest:
        _log_ignored(agent_log.agent, "the log has another event at its seq")
    return found == digest


def _log_ignored(agent: str, reason: str) -> None:
    get_logger("replay").warning("snapshot_ignored", agent=agent, reason=reason)


def _at_base(agent_log: AgentLog, *, fold_of: FoldOf | None, to_seq: int | None) -> Rebuilt:
    """The state where the log was trimmed. Raises Trimmed if `to_seq` lies before it, CorruptEvent."""
    agent, base = agent_log.agent, load_base(agent_log)
    if base is None:
        raise CorruptEvent(
            f"{agent} was trimmed, but what its log continues is gone; restore it from a backup", agent=agent
        )
    seq = base.state.seq
    if to_seq is not None and to_seq < seq:
        raise Trimmed(
            f"events up to {seq} of {agent} were trimmed, so its state is known from {seq} on",
            agent=agent,
            expected=to_seq,
            actual=seq + 1,
        )
    return Rebuilt(base.state, base.custom if fold_of is None else _custom_at(agent, base, fold_of), seq)


def _custom_at(agent: str, base: BaseState, fold_of: FoldOf) -> Any:
    """The custom state at a base, in the form that today's code continues. Raises Trimmed."""
    fold = fold_of(base.state.agent_type)
    if fold is None or base.state.seq == 0:
        return base.custom
    if base.custom_version is None:
        return fold.initial()  # there was nothing to fold yet
    if not fold.reads_base(base.custom_version):
        seq = base.state.seq
        raise Trimmed(
            f"the state that {agent}'s own events had made at {seq} has the form {base.custom_version[:80]!r}, not "
            f"{fold.version[:80]!r}, and the events before it were trimmed; let its class read the older form",
            agent=agent,
            seq=seq,
            expected=fold.version,
            actual=seq + 1,
        )
    return base.custom
