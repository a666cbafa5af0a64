"""The state that stands in for the events that were trimmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from duramen.events import CorruptEvent, Trimmed, ValueRefused
from duramen.events.model import same_value

from ..state import SCHEMA, AgentState
from .agent_log import AgentLog
from .session_totals import SessionTotals

UNFOLDED: Final = ""
"""A version of custom state: there were events of the user's own types, and nothing that folds them."""

_TRIES: Final = 5
_NOTHING: Final = SessionTotals()


@frozen(eq=False, repr=False)
class BaseState:
    """An agent at the last of its trimmed events: state, custom state with its form, and the session's totals."""

    state: AgentState
    custom: Any = None
    custom_version: str | None = None
    """None: the session had no events of the user's own types up to here."""
    totals: SessionTotals = _NOTHING
    forked_at: int | None = None
    """The seq of the event that made the agent as a fork, where others come before it; see `fork_agents`."""


def pack_base(agent_log: AgentLog, base: BaseState) -> bytes:
    """The stored bytes, read back and compared: a snapshot that also has the totals. Raises TooLarge, ValueRefused."""
    fields = {"custom": base.custom, "custom_version": base.custom_version, "totals": _dump_totals(base.totals)}
    fields |= {} if base.forked_at is None else {"forked_at": base.forked_at}
    stored = agent_log.pack_state(base.state, fields)
    found = _unpacked(agent_log, stored)
    if not same_value(
        [found.state.dump(), found.custom, found.custom_version, _dump_totals(found.totals), found.forked_at],
        [base.state.dump(), base.custom, base.custom_version, _dump_totals(base.totals), base.forked_at],
    ):
        raise ValueRefused(
            f"the state of {agent_log.agent} at {base.state.seq} would not be read back equal; nothing was stored",
            agent=agent_log.agent,
            seq=base.state.seq,
        )
    return stored


def load_base(agent_log: AgentLog) -> BaseState | None:
    """The state at an agent's base; None if nothing was trimmed.

    There is no second copy, and no events to make it from: raises CorruptEvent if it is damaged, Trimmed if it was
    written by code whose states have another form.
    """
    log, agent = agent_log.log, agent_log.agent
    base = log.base(agent)
    for _ in range(_TRIES):
        if base is None:
            return None
        stored = log.load([log.base_key(agent)])[0]
        again = log.base(agent)
        if base == again:  # else it was trimmed further between the two
            found = _unpacked(agent_log, stored)
            if (found.state.seq, found.state.digest) != (base.seq, base.digest):
                raise _damaged(agent, base.seq)
            return found
        base = again
    raise CorruptEvent(f"the base of {agent} is another at each look", agent=agent)


def _unpacked(agent_log: AgentLog, stored: bytes | None) -> BaseState:
    agent = agent_log.agent
    if stored is None:
        raise _damaged(agent, None)
    record = agent_log.unpack_snapshot(stored)
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
        found = BaseState(
            state,
            fields["custom"],
            fields["custom_version"],
            _load_totals(fields["totals"]),
            fields.get("forked_at"),
        )
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
