"""An agent's state from its log: the latest snapshot if it can be believed, then every event after it.

There is one path: without a snapshot it starts from nothing, and then replays from the next seq just the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from duramen.events import CorruptEvent, Limits
from duramen.events.codec import DIGEST_SIZE, Codec, RawEvent
from duramen.events.log import EventLog
from duramen.events.logs import get_logger
from duramen.events.snapshots import SnapshotRecord, unpack_snapshot
from duramen.events.stored import raw_events
from duramen.events.vocabulary import OWN_TYPES, SPAWNED

from .state import SCHEMA, AgentState, advance

__all__ = ["CustomFold", "FoldOf", "Rebuilt", "rebuild"]


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
) -> Rebuilt:
    """State of an agent at its head, or at `to_seq`. Raises AgentNotFound, CorruptEvent, Trimmed, UnknownEventType."""
    record = _believable(log, agent, codec, limits, fold_of=fold_of, to_seq=to_seq) if use_snapshot else None
    state = AgentState() if record is None else AgentState.load(record.state["agent"])
    own = None if record is None or fold_of is None else record.state["custom"]
    fold = None if record is None or fold_of is None else fold_of(state.agent_type)
    for _, raw, digest in raw_events(log, agent, codec, after=state.seq, digest=state.digest, to_seq=to_seq):
        try:
            advance(state, raw, digest, limits.commands_remembered)
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
    return Rebuilt(state, own, record.seq if record else 0)


def _believable(
    log: EventLog, agent: str, codec: Codec, limits: Limits, *, fold_of: FoldOf | None, to_seq: int | None
) -> SnapshotRecord | None:
    """The snapshot, if its bytes are whole, its form is today's, and the log has its digest at its seq."""
    stored = log.load([log.snapshot_key(agent)])[0]
    if stored is None:
        return None
    try:
        record = unpack_snapshot(stored, agent, codec, limits)
    except CorruptEvent as error:
        get_logger("replay").warning("snapshot_ignored", agent=agent, reason=str(error))
        return None
    if record.schema != SCHEMA:
        return None
    fold = None if fold_of is None else fold_of(record.state["agent"]["agent_type"])
    if fold is not None and record.state["custom_version"] != fold.version:
        return None
    if to_seq is not None and record.seq > to_seq:
        return None
    page = log.read(agent, record.seq, 1)
    if page is None or not page.items or page.items[0][:DIGEST_SIZE] != record.digest:
        get_logger("replay").warning(
            "snapshot_ignored", agent=agent, seq=record.seq, reason="the log has another event at its seq"
        )
        return None
    return record
