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
from duramen.events.snapshots import unpack_snapshot
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
    start = _believable(log, agent, codec, limits, fold_of=fold_of, to_seq=to_seq) if use_snapshot else None
    state, own = (AgentState(), None) if start is None else start
    snapshot_seq = state.seq
    fold = None if fold_of is None or start is None else fold_of(state.agent_type)
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
    return Rebuilt(state, own, snapshot_seq)


def _believable(
    log: EventLog, agent: str, codec: Codec, limits: Limits, *, fold_of: FoldOf | None, to_seq: int | None
) -> tuple[AgentState, Any] | None:
    """The snapshot's state, if its bytes are whole, its form is today's, and the log has its digest at its seq."""
    stored = log.load([log.snapshot_key(agent)])[0]
    if stored is None:
        return None
    try:
        record = unpack_snapshot(stored, agent, codec, limits)
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
    page = log.read(agent, state.seq, 1)
    if page is None or not page.items or page.items[0][:DIGEST_SIZE] != state.digest:
        _ignored(agent, "the log has another event at its seq")
        return None
    return state, own


def _ignored(agent: str, reason: str) -> None:
    get_logger("replay").warning("snapshot_ignored", agent=agent, reason=reason)
