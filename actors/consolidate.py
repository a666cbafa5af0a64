"""Turning a session into an episode."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from duramen.events.codec import DIGEST_SIZE, NO_DIGEST, instant
from duramen.events.stored import event_of, raw_events
from duramen.events.vocabulary import ACTIVITY_RECORDED
from duramen.projections.episodes import SessionActivity, SessionTotals, compose_episode

from .decider import outcome_of
from .messages import Terminate
from .turn import Turn

__all__ = ["consolidate"]


def consolidate(turn: Turn, message: Terminate) -> dict[str, Any]:
    """The episode of the session that is about to end, built from its range of the log."""
    state, path = turn.state, turn.runtime.path
    episode = compose_episode(
        agent=path,
        session_id=state.session_id,
        first_seq=state.session_first_seq,
        last_seq=state.seq + 2,  # the episode itself and the end of the session, in the append that follows
        duration_seconds=max(0, turn.now - state.started_at) / 1_000_000,
        created_at=instant(turn.now),
        totals=_totals(turn),
        memory=state.memory,
        outcome=outcome_of(message.outcome).value,
        outcome_details=message.outcome_details,
        task_description=message.task_description,
        context_summary=message.context_summary,
        lessons_learned=list(message.lessons_learned),
        importance_score=float(message.importance_score),
    )
    return episode.as_data()


def _totals(turn: Turn) -> SessionTotals:
    state, services, path = turn.state, turn.runtime.services, turn.runtime.path
    after, digest = state.session_first_seq - 1, NO_DIGEST
    if after:
        page = services.log.read(path, after, 1)
        digest = page.items[0][:DIGEST_SIZE] if page and page.items else NO_DIGEST
    view = SessionActivity()
    totals = view.initial()
    count = 0
    for seq, raw, own in raw_events(services.log, path, turn.codec, after=after, digest=digest, to_seq=state.seq):
        count += 1
        if raw[0] == ACTIVITY_RECORDED:  # all else is only counted
            totals = view.apply(totals, event_of(path, seq, raw, own, services.registry))
    return evolve(totals, events=count)
