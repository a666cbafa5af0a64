"""Consolidating a session into an episode."""

from __future__ import annotations

from typing import Any

from duramen.events.codec import decode_items, to_datetime
from duramen.projections.episodes import compose_episode
from duramen.projections.recovery import AgentLog, SessionCount, SessionTotals, count_session

from ...commands import Terminate, outcome_of
from ..turn import Turn


def consolidate(turn: Turn, message: Terminate) -> dict[str, Any]:
    """The episode of the session that this turn ends, as plain data, built from the session's part of the log."""
    state, path = turn.state, turn.runtime.path
    episode = compose_episode(
        agent=path,
        session_id=state.session_id,
        first_seq=state.session_first_seq,
        last_seq=state.seq + 2,  # the two events of this turn: the episode and the end of the session
        duration_seconds=max(0, turn.now - state.started_at) / 1_000_000,
        created_at=to_datetime(turn.now),
        totals=_count(turn),
        memory=state.memory,
        outcome=outcome_of(message.outcome).value,
        outcome_details=message.outcome_details,
        task_description=message.task_description,
        context_summary=message.context_summary,
        lessons_learned=list(message.lessons_learned),
        importance_score=float(message.importance_score),
    )
    return episode.as_data()


def _count(turn: Turn) -> SessionTotals:
    """The totals of the session, up to and with the events of this turn, which are not in the log yet."""
    services, first = turn.services, turn.state.session_first_seq
    agent_log = AgentLog(services.log, turn.agent, services.limits, services.registry, turn.codec)
    totals = count_session(agent_log, from_seq=first, to_seq=turn.expected)
    if not turn.items:
        return totals
    count = SessionCount(agent_log, totals)
    for seq, raw, digest in decode_items(
        turn.agent, turn.items, turn.codec, services.log.chain, after=turn.expected, digest=turn.previous
    ):
        count.add(seq, raw, digest)
    return count.totals
