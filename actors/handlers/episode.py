"""Consolidating a session into an episode."""

from __future__ import annotations

from typing import Any

from duramen.events.codec import to_datetime
from duramen.projections.episodes import compose_episode
from duramen.projections.recovery import AgentLog, count_session

from ..commands import Terminate, outcome_of
from .turn import Turn

__all__ = ["consolidate"]


def consolidate(turn: Turn, message: Terminate) -> dict[str, Any]:
    """The episode of the session that this turn ends, as plain data, built from the session's part of the log."""
    state, path, services = turn.state, turn.runtime.path, turn.runtime.services
    episode = compose_episode(
        agent=path,
        session_id=state.session_id,
        first_seq=state.session_first_seq,
        last_seq=state.seq + 2,  # the two events of this turn: the episode and the end of the session
        duration_seconds=max(0, turn.now - state.started_at) / 1_000_000,
        created_at=to_datetime(turn.now),
        totals=count_session(
            AgentLog(services.log, path, services.limits, services.registry, turn.codec),
            from_seq=state.session_first_seq,
            to_seq=state.seq,
        ),
        memory=state.memory,
        outcome=outcome_of(message.outcome).value,
        outcome_details=message.outcome_details,
        task_description=message.task_description,
        context_summary=message.context_summary,
        lessons_learned=list(message.lessons_learned),
        importance_score=float(message.importance_score),
    )
    return episode.as_data()
