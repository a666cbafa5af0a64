"""An agent's state from its log: the latest snapshot if it can be believed, then every event after it.

There is one path: without a snapshot it starts from nothing, or where the log was trimmed from the state at its base,
and then replays from the next seq just the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from attrs import frozen

from duramen.events import CorruptEvent, EventRegistry, Limits, Trimmed
from duramen.events.codec import Codec, RawEvent, unpack_snapshot
from duramen.events.log import EventLog, digest_at, raw_events
from duramen.events.logging import get_logger
from duramen.events.model import OWN_TYPES, SPAWNED

from ..state import SCHEMA, AgentState, advance
from .session_count import SessionCount
from .trim_base import UNFOLDED, BaseState, load_base

__all__ = ["CustomFold", "FoldOf", "Rebuilt", "rebuild", "state_for_base"]

_TRIES: Final = 5


@frozen
class CustomFold:
    """How a user's own events fold into a state of their own, beside working memory; it starts anew with each session.

    `version` names the form of that state; a snapshot with another one is ignored.
    """

    version: str
    initial: Callable[[], Any]
    apply: Callable[[Any, RawEvent], Any]


FoldOf = Callable[[str | None], CustomFold | None]
"""The custom fold of an agent type; None where it has none."""


@frozen
class Rebuilt:
    """State at a seq, the state of custom events if a fold was given, and where the snapshot used stood (0: none)."""

    state: AgentState
    custom: Any
    snapshot_seq: int


def rebuild(
    log: EventLog,
    agent: str,
    codec: Codec,
    limits: Limits,
    *,
    fold_of: FoldOf | None = None,
    to_seq: int | None = None,
    use_snapshot: bool = True,
    snapshot: bytes | None = None,
) -> Rebuilt:
    """State of an agent at its head, or at `to_seq`. `snapshot` is one more that may be nearer than the automatic one.

    Raises AgentNotFound, CorruptEvent, UnknownEventType, and Trimmed if `to_seq` lies before the events that are left.
    """
    kept: list[tuple[AgentState, Any]] = []
    for stored in (snapshot, log.load([log.snapshot_key(agent)])[0]) if use_snapshot else ():
        found = _usable(log, agent, codec, limits, stored, fold_of=fold_of, to_seq=to_seq)
        kept += [] if found is None else [found]
    kept.sort(key=lambda each: each[0].seq)
    base: tuple[AgentState, Any] | None = None
    for _ in range(_TRIES):
        checked = base is not None or not kept
        state, own = kept.pop() if not checked else base or (AgentState(), None)
        before, digest = state.seq, state.digest
        events = raw_events(log, agent, codec, after=before, digest=digest, to_seq=to_seq)
        try:
            own = _replay(agent, events, state, own, limits=limits, fold_of=fold_of)
        except Trimmed:  # the start, or while it was replayed what should have come next
            base = _at_base(log, agent, codec, limits, fold_of=fold_of, to_seq=to_seq)
            continue
        except CorruptEvent as error:
            if checked or error.seq != before + 1 or _has(log, agent, before, digest):
                raise
            continue
        # Where events followed, the first one's digest tells that the log has that of the snapshot.
        if checked or state.seq > before or _has(log, agent, before, digest):
            return Rebuilt(state, own, before)
    raise Trimmed(f"{agent} is trimmed faster than it can be read; try again", agent=agent)


def state_for_base(
    log: EventLog,
    agent: str,
    codec: Codec,
    limits: Limits,
    registry: EventRegistry,
    *,
    to_seq: int,
    before: int | None = None,
    fold_of: FoldOf,
) -> BaseState:
    """What has to be kept of an agent to trim its log up to `to_seq`, or to its first event not older than `before`.

    `before` is in µs. Reads and checks every event that is to go. Where nothing may go it is the base there was. Raises
    what `rebuild` raises.
    """
    start = load_base(log, agent, codec, limits) or BaseState(AgentState())
    state = start.state
    count = SessionCount(agent, registry, start.totals)
    own = _own_at(agent, start, fold_of)
    stored = raw_events(log, agent, codec, after=state.seq, digest=state.digest, to_seq=max(to_seq, state.seq))
    own = _replay(agent, _shown(stored, count, before), state, own, limits=limits, fold_of=fold_of)
    version, fold = None if count.anew else start.custom_version, fold_of(state.agent_type)
    if count.own_events:
        version = UNFOLDED if fold is None else fold.version
    return BaseState(state, own, version, count.totals)


def _shown(
    events: Iterable[tuple[int, RawEvent, bytes]], count: SessionCount, before: int | None
) -> Iterator[tuple[int, RawEvent, bytes]]:
    """The events older than `before`, each shown to the count."""
    for seq, raw, digest in events:
        if before is not None and raw[3] >= before:
            return
        count.see(seq, raw, digest)
        yield seq, raw, digest


def _replay(
    agent: str,
    events: Iterable[tuple[int, RawEvent, bytes]],
    state: AgentState,
    own: Any,
    *,
    limits: Limits,
    fold_of: FoldOf | None,
) -> Any:
    """Let events change `state`, in place, and fold the user's own on `own`, which comes back."""
    fold = None if fold_of is None or state.seq == 0 else fold_of(state.agent_type)
    remembered = limits.commands_remembered
    for _, raw, digest in events:
        try:
            advance(state, raw, digest, remembered)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise CorruptEvent(
                f"event {state.seq + 1} of {agent} does not fit the state before it ({type(error).__name__})",
                agent=agent,
                seq=state.seq + 1,
            ) from None
        if fold_of is None:
            continue
        if raw[0] == SPAWNED:
            fold = fold_of(state.agent_type)
            own = fold.initial() if fold else None
        elif fold is not None and raw[0] not in OWN_TYPES:
            own = fold.apply(own, raw)
    return own


# -- where to start ----------------------------------------------------------------------------------------------------


def _usable(
    log: EventLog,
    agent: str,
    codec: Codec,
    limits: Limits,
    stored: bytes | None,
    *,
    fold_of: FoldOf | None,
    to_seq: int | None,
) -> tuple[AgentState, Any] | None:
    """A snapshot's state, if its bytes are whole, its form is today's, and it is not too late.

    Whether the log has its digest at its seq is still to be told.
    """
    if stored is None:
        return None
    try:
        record = unpack_snapshot(stored, agent, codec, limits, log.chain)
        if record.schema != SCHEMA:
            return None  # of other code: nothing is wrong with it
        state = AgentState.load(record.state["agent"])
        own, version = record.state["custom"], record.state["custom_version"]
    except (CorruptEvent, KeyError, TypeError) as error:
        _ignored(agent, f"it does not decode ({type(error).__name__})")
        return None
    if (state.seq, state.digest) != (record.seq, record.digest):
        _ignored(agent, "its state stands elsewhere than it says")
        return None
    fold = None if fold_of is None else fold_of(state.agent_type)
    if (fold is not None and version != fold.version) or (to_seq is not None and state.seq > to_seq):
        return None
    return state, own


def _has(log: EventLog, agent: str, seq: int, digest: bytes) -> bool:
    """Whether the log has this digest at a seq."""
    try:
        found = digest_at(log, agent, seq)
    except Trimmed:
        return False  # older than the state at the base
    if found != digest:
        _ignored(agent, "the log has another event at its seq")
    return found == digest


def _ignored(agent: str, reason: str) -> None:
    get_logger("replay").warning("snapshot_ignored", agent=agent, reason=reason)


def _at_base(
    log: EventLog, agent: str, codec: Codec, limits: Limits, *, fold_of: FoldOf | None, to_seq: int | None
) -> tuple[AgentState, Any]:
    """The state where the log was trimmed. Raises Trimmed if `to_seq` lies before it, CorruptEvent."""
    base = load_base(log, agent, codec, limits)
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
    return base.state, base.custom if fold_of is None else _own_at(agent, base, fold_of)


def _own_at(agent: str, base: BaseState, fold_of: FoldOf) -> Any:
    """What the user's own events had made at a base, in the form that today's code continues. Raises Trimmed."""
    fold = fold_of(base.state.agent_type)
    if fold is None or base.state.seq == 0:
        return base.custom
    if base.custom_version is None:
        return fold.initial()  # there was nothing to fold yet
    if base.custom_version != fold.version:
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
