"""The state that stands in for the events that were trimmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from duramen.events import CorruptEvent, Limits, Trimmed
from duramen.events.codec import PLAIN, Codec, DigestChain, SnapshotRecord, pack_snapshot, unpack_snapshot
from duramen.events.log import EventLog

from ..state import SCHEMA, AgentState
from .session_totals import SessionTotals

__all__ = ["UNFOLDED", "BaseState", "load_base", "pack_base"]

UNFOLDED: Final = ""
"""A version of custom state: there were events of the user's own types, and nothing that folds them."""

_TRIES: Final = 5
_NOTHING: Final = SessionTotals()


@frozen
class BaseState:
    """An agent at the last of its events that are gone.

    `custom` is what its own events have made, `custom_version` the form of that, `totals` what its session had done.
    """

    state: AgentState
    custom: Any = None
    custom_version: str | None = None
    """None: the session had no events of the user's own types up to here."""
    totals: SessionTotals = _NOTHING


def pack_base(agent: str, base: BaseState, codec: Codec, limits: Limits, chain: DigestChain = PLAIN) -> bytes:
    """As it is stored: a snapshot, with the totals beside the state. Raises TooLarge, ValueRefused."""
    state = base.state
    fields = {
        "agent": state.dump(),
        "custom": base.custom,
        "custom_version": base.custom_version,
        "totals": _dump_totals(base.totals),
    }
    record = SnapshotRecord(agent, state.seq, state.digest, state.updated_at, SCHEMA, fields)
    return pack_snapshot(record, codec, limits, chain)


def load_base(log: EventLog, agent: str, codec: Codec, limits: Limits) -> BaseState | None:
    """The state at an agent's base; None if nothing was trimmed.

    There is no second copy, and no events to make it from: raises CorruptEvent if it is not what it should be, Trimmed
    if it was written by code whose states have another form.
    """
    base = log.base(agent)
    for _ in range(_TRIES):
        if base is None:
            return None
        stored = log.load([log.base_key(agent)])[0]
        again = log.base(agent)
        if base == again:  # else it was trimmed further between the two
            found = _unpacked(stored, agent, codec, limits, log.chain)
            if (found.state.seq, found.state.digest) != (base.seq, base.digest):
                raise _damaged(agent, base.seq)
            return found
        base = again
    raise CorruptEvent(f"the base of {agent} is another at each look", agent=agent)


def _unpacked(stored: bytes | None, agent: str, codec: Codec, limits: Limits, chain: DigestChain) -> BaseState:
    if stored is None:
        raise _damaged(agent, None)
    record = unpack_snapshot(stored, agent, codec, limits, chain)
    if record.schema != SCHEMA:
        raise Trimmed(
            f"the state of {agent} at {record.seq} has the form {record.schema[:40]!r}, which this version of duramen "
            "does not read, and the events before it were trimmed; use the version that has trimmed it",
            agent=agent,
            seq=record.seq,
            expected=SCHEMA,
            actual=record.seq + 1,
        )
    try:
        fields = record.state
        state = AgentState.load(fields["agent"])
        found = BaseState(state, fields["custom"], fields["custom_version"], _load_totals(fields["totals"]))
    except (KeyError, TypeError, ValueError):
        raise _damaged(agent, record.seq) from None
    if (state.seq, state.digest) != (record.seq, record.digest):
        raise _damaged(agent, record.seq)
    return found


def _damaged(agent: str, seq: int | None) -> CorruptEvent:
    return CorruptEvent(
        f"the events of {agent} before its base were trimmed, and its state there is missing or damaged; restore it "
        "from a backup",
        agent=agent,
        seq=seq,
    )


def _dump_totals(totals: SessionTotals) -> dict[str, Any]:
    return {
        "events": totals.events,
        "tokens_used": totals.tokens_used,
        "actions": [[tool, seq] for tool, seq in totals.actions],
        "tools": dict(totals.tools),
        "activities": dict(totals.activities),
    }


def _load_totals(dumped: Mapping[str, Any]) -> SessionTotals:
    actions = tuple((str(tool), int(seq)) for tool, seq in dumped["actions"])
    return SessionTotals(
        int(dumped["events"]), int(dumped["tokens_used"]), actions, dict(dumped["tools"]), dict(dumped["activities"])
    )
