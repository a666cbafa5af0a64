"""The totals of a session, counted over its events while they are read, also where the first of them were trimmed."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from duramen.events import CorruptEvent, Trimmed
from duramen.events.codec import NO_DIGEST, RawEvent, build_valid_event
from duramen.events.logging import get_logger
from duramen.events.model import ACTIVITY_RECORDED, FORKED, OWN_TYPES, SPAWNED

from .agent_log import AgentLog
from .session_totals import SessionActivity, SessionTotals
from .trim_base import load_base

_TRIES: Final = 5
_VIEW: Final = SessionActivity()


class SessionCount:
    """Counts the session that the added events belong to, from `totals` on; starts again where a session begins."""

    def __init__(self, agent_log: AgentLog, totals: SessionTotals | None = None) -> None:
        self._agent = agent_log.agent
        self._registry = agent_log.registry
        self._totals = totals or _VIEW.initial()
        self._events = self._totals.events
        self.is_new_session = False
        """Whether the session began while it counted."""
        self.has_custom_events = False
        """Whether events of the user's own types were among those of the session."""

    @property
    def totals(self) -> SessionTotals:
        return evolve(self._totals, events=self._events)

    def add(self, seq: int, raw: RawEvent, digest: bytes) -> None:
        """Count the next event. Raises CorruptEvent."""
        kind = raw[0]
        if kind == SPAWNED:
            self._totals, self._events = _VIEW.initial(), 0
            self.is_new_session, self.has_custom_events = True, False
        elif kind == FORKED:  # its custom state goes on
            self._totals, self._events = _VIEW.initial(), 0
        self._events += 1
        if kind == ACTIVITY_RECORDED:  # all else is only counted
            self._totals = _VIEW.apply(self._totals, build_valid_event(self._agent, seq, raw, digest, self._registry))
        elif kind not in OWN_TYPES:
            self.has_custom_events = True


def count_session(agent_log: AgentLog, *, from_seq: int, to_seq: int) -> SessionTotals:
    """The totals of the session that began at `from_seq`, up to `to_seq`.

    Those of trimmed events come from the base. If that is damaged, only what is left counts: a session must be able to
    end. Raises AgentNotFound, CorruptEvent, Trimmed.
    """
    after, totals = from_seq - 1, None
    for _ in range(_TRIES):
        try:
            digest = agent_log.digest_at(after)
            count = SessionCount(agent_log, totals)
            for seq, raw, own in agent_log.raw_events(after, digest or NO_DIGEST, max(to_seq, after)):
                count.add(seq, raw, own)
        except Trimmed as trimmed:  # the base is only read now: most sessions are whole
            after, totals = _trimmed_part(agent_log, from_seq, trimmed)
        else:
            return count.totals
    raise Trimmed(f"{agent_log.agent} is trimmed faster than it can be read; try again", agent=agent_log.agent)


def _trimmed_part(agent_log: AgentLog, from_seq: int, trimmed: Trimmed) -> tuple[int, SessionTotals | None]:
    """The last seq that is trimmed, and the session's totals up to it."""
    try:
        base = load_base(agent_log)
    except (CorruptEvent, Trimmed) as error:
        get_logger("retention").warning("session_counted_in_part", agent=agent_log.agent, reason=str(error))
        base = None
    if base is None:
        return int(trimmed.actual) - 1, None
    return base.state.seq, base.totals if base.state.session_first_seq == from_seq else None
